"""What a user may give to the estimators, and what comes back."""

import pickle
import shutil

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy import sparse
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from torch import nn

from skuq import TorchClassifier, TorchRegressor
from skuq.likelihoods import Categorical, Gaussian
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate
from tests import networks

FAST = {"max_epochs": 5, "lr": 0.01, "random_state": 0}


def classifier(posterior=None, module=None, **options):
    return TorchClassifier(module, posterior=posterior or PointEstimate(), **{**FAST, **options})


def regressor(posterior=None, module=None, **options):
    return TorchRegressor(module, posterior=posterior or PointEstimate(), **{**FAST, **options})


# -- inputs -----------------------------------------------------------------------------------


def as_memmap(X, tmp_path):
    np.save(tmp_path / "X.npy", X)
    return np.load(tmp_path / "X.npy", mmap_mode="r")


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


FORMS = {
    "list": lambda X, _: X.tolist(),
    "float64": lambda X, _: X.astype(np.float64),
    "big endian": lambda X, _: X.astype(">f8"),
    "object": lambda X, _: X.astype(object),
    "Fortran order": lambda X, _: np.asfortranarray(X),
    "negative stride": lambda X, _: X[::-1][::-1],
    "read-only": lambda X, _: read_only(X),
    "read-only memmap": as_memmap,
    "pandas": lambda X, _: pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])]),
    "polars": lambda X, _: pl.DataFrame(X, schema=[f"x{i}" for i in range(X.shape[1])]),
    "sparse": lambda X, _: sparse.csr_array(X),
    "torch": lambda X, _: torch.tensor(X),
}


@pytest.mark.parametrize("form", FORMS)
def test_any_form_of_X_gives_the_same(form, blobs, tmp_path):
    X, y = blobs
    given = FORMS[form](X, tmp_path)
    kept = pickle.dumps(given) if form != "read-only memmap" else None
    expected = classifier().fit(X, y).predict_proba(X)
    fitted = classifier().fit(given, y)
    np.testing.assert_allclose(fitted.predict_proba(given), expected, atol=1e-5)
    assert kept is None or pickle.dumps(given) == kept


@pytest.mark.parametrize("dtype", [np.float16, np.int32, np.int64, np.uint8, bool])
def test_any_type_of_X_is_cast_once(dtype):
    X = (np.random.default_rng(0).random((60, 6)) > 0.5).astype(dtype)
    y = X[:, 0].astype(int)
    expected = classifier().fit(X.astype(np.float32), y).predict_proba(X.astype(np.float32))
    np.testing.assert_allclose(classifier().fit(X, y).predict_proba(X), expected, atol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity(bad, blobs):
    X, y = blobs
    fitted, spoiled = classifier().fit(X, y), X.copy()
    spoiled[3, 2] = bad
    for call in (lambda: classifier().fit(spoiled, y), lambda: fitted.predict(spoiled)):
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            call()


def test_shapes_that_do_not_fit(blobs):
    X, y = blobs
    fitted = classifier().fit(X, y)
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        fitted.predict(X[:0])
    with pytest.raises(ValueError, match="Reshape your data"):
        fitted.predict(X[0])
    with pytest.raises(ValueError, match=r"9 features.*expecting 10 features"):
        fitted.predict(X[:, :9])
    with pytest.raises(ValueError, match="fitted on rows of shape"):
        fitted.predict(X[:, :, None])
    assert fitted.predict(X[:1]).shape == (1,)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        classifier().fit(X, y[:-1])


def test_column_names(blobs):
    X, y = blobs
    frame = FORMS["pandas"](X, None)
    fitted = classifier().fit(frame, y)
    assert list(fitted.feature_names_in_) == list(frame.columns)
    assert fitted.n_features_in_ == 10
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(frame[frame.columns[::-1]])


def test_images_and_flattened_images(digits):
    X, y = digits
    images = X.reshape(-1, 1, 8, 8)
    fitted = classifier(module=networks.ConvNet, max_epochs=20).fit(images, y)
    assert fitted.score(images, y) > 0.8
    assert classifier().fit(images, y).predict(images).shape == y.shape  # the MLP flattens


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ones(3), "sample_weight.shape"),
        (-np.ones(240), "[Nn]egative"),
        (np.zeros(240), "zero"),
        (np.full(240, np.nan), "NaN"),
    ],
)
def test_bad_weights(weight, message, blobs):
    with pytest.raises(ValueError, match=message):
        classifier().fit(*blobs, sample_weight=weight)


def test_rows_of_weight_zero_do_not_take_part(blobs):
    """Not in the loss, the batches, the scaling of y or the validation rows."""
    X, y = blobs
    weight = np.where(np.arange(len(y)) % 3 == 0, 0.0, 1.0)
    kept = weight > 0
    for make, target in ((classifier, y), (regressor, y * 1000.0)):
        options = {"early_stopping": True, "max_epochs": 8}
        weighted = make(**options).fit(X, target, sample_weight=weight)
        removed = make(**options).fit(X[kept], target[kept])
        np.testing.assert_allclose(weighted.predict(X), removed.predict(X), rtol=1e-4)


def test_single_class_after_removal(blobs):
    X, y = blobs
    with pytest.raises(ValueError, match="one class"):
        classifier().fit(X, y, sample_weight=(y == 1).astype(float))


def test_class_weight_is_sample_weight(blobs):
    X, y = blobs
    weights = {0: 1.0, 1: 5.0, 2: 0.5}
    by_class = classifier(class_weight=weights).fit(X, y)
    by_sample = classifier().fit(X, y, sample_weight=np.vectorize(weights.get)(y))
    assert np.array_equal(by_class.predict_proba(X), by_sample.predict_proba(X))
    names = np.array(["a", "b", "c"])[y]
    named = classifier(class_weight={"a": 1.0, "b": 5.0, "c": 0.5}).fit(X, names)
    assert np.array_equal(named.predict_proba(X), by_class.predict_proba(X))
    balanced = classifier(class_weight="balanced").fit(X[:150], y[:150])
    assert not np.array_equal(
        balanced.predict_proba(X), classifier().fit(X[:150], y[:150]).predict_proba(X)
    )


def test_balanced_class_weight_counts_sample_weights(blobs):
    X, y = blobs
    counts = np.random.default_rng(0).integers(1, 4, len(y)) * np.where(y == 0, 3, 1)
    repeated = np.repeat(np.arange(len(y)), counts)
    options = {
        "class_weight": "balanced", "precision": "float64", "batch_size": 10_000,
        "module__dropout": 0.0,
    }  # fmt: skip
    weighted = classifier(**options).fit(X, y, sample_weight=counts)
    twice = classifier(**options).fit(X[repeated], y[repeated])
    np.testing.assert_allclose(weighted.predict_proba(X), twice.predict_proba(X), rtol=1e-7)


# -- labels -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels",
    [["a", "b", "c"], [5, 7, 9], [-1, 0, 1], [1, 2, 3], [2**40, 2**41, 2**42], [0.0, 1.0, 2.0]],
    ids=str,
)
def test_labels_of_any_kind(labels, blobs):
    X, y = blobs
    labels = np.array(labels)
    fitted, plain = classifier().fit(X, labels[y]), classifier().fit(X, y)
    assert np.array_equal(fitted.classes_, labels)
    assert np.array_equal(fitted.predict(X), labels[plain.predict(X)])
    assert np.array_equal(fitted.predict_proba(X), plain.predict_proba(X))
    assert np.array_equal(pickle.loads(pickle.dumps(fitted)).classes_, labels)


@pytest.mark.parametrize("labels", [[False, True], [-1, 1], ["no", "yes"]], ids=str)
def test_two_classes(labels, blobs):
    X, y = blobs
    target = np.array(labels)[(y > 0).astype(int)]
    fitted = classifier(MCDropout(5)).fit(X, target)
    odds, proba = fitted.decision_function(X), fitted.predict_proba(X)
    assert odds.shape == (len(X),)
    np.testing.assert_allclose(1 / (1 + np.exp(-odds)), proba[:, 1], atol=1e-12)
    assert np.array_equal(fitted.predict(X) == fitted.classes_[1], odds > 0)


def test_one_class_or_numbers():
    X = np.random.default_rng(0).normal(size=(30, 3))
    with pytest.raises(ValueError, match="one class"):
        classifier().fit(X, np.zeros(30))
    with pytest.raises(ValueError, match="Unknown label type"):
        classifier().fit(X, X[:, 0])


def test_probabilities_and_labels_never_disagree(digits):
    """At logits of a scale where averages of probabilities and of logarithms would."""

    class Steep(networks.ResidualNet):
        def forward(self, x):
            return 200 * super().forward(x)

    X, y = digits
    fitted = classifier(MCDropout(20), Steep, max_epochs=2).fit(X, y % 2)
    proba = fitted.predict_proba(X)
    assert np.isfinite(proba).all() and ((proba >= 0) & (proba <= 1)).all()
    np.testing.assert_allclose(proba.sum(1), 1, atol=1e-12)
    log_proba = fitted.predict_log_proba(X)
    assert np.isfinite(log_proba).all()
    assert np.array_equal(fitted.predict(X), log_proba.argmax(1))
    assert np.isfinite(fitted.predict_uncertainty(X)).all()


# -- regression -------------------------------------------------------------------------------


def test_y_of_one_dimension_trains_the_right_loss(diabetes):
    X, y = diabetes
    flat, column = (regressor(max_epochs=30).fit(X, t) for t in (y, y[:, None]))
    assert flat.predict(X).shape == y.shape
    assert column.predict(X).shape == (len(y), 1)
    assert np.array_equal(flat.predict(X), column.predict(X)[:, 0])
    assert flat.score(X, y) > 0.4


def test_units_of_y(diabetes):
    """Everything follows y = 1000 + 7 z exactly: means, variances, quantiles, losses."""
    X, z = diabetes
    inner, outer = (
        regressor(MCDropout(8), max_epochs=10, precision="float64").fit(X, y)
        for y in (z, 1000 + 7 * z)
    )
    np.testing.assert_allclose(outer.predict(X), 1000 + 7 * inner.predict(X))
    np.testing.assert_allclose(
        outer.predict(X, return_std=True)[1], 7 * inner.predict(X, return_std=True)[1]
    )
    for kind in ("total", "aleatoric", "epistemic"):
        np.testing.assert_allclose(
            outer.predict_uncertainty(X, kind), 49 * inner.predict_uncertainty(X, kind), rtol=1e-6
        )
    np.testing.assert_allclose(outer.predict_interval(X), 1000 + 7 * inner.predict_interval(X))
    np.testing.assert_allclose(outer.predict_draws(X), 1000 + 7 * inner.predict_draws(X))


@pytest.mark.parametrize("heteroscedastic", [True, False])
def test_several_targets(heteroscedastic, diabetes):
    X, y = diabetes
    Y = np.column_stack([y, -1e4 * y, np.ones_like(y)])
    fitted = regressor(
        MCDropout(6), likelihood=Gaussian(heteroscedastic=heteroscedastic), max_epochs=40
    ).fit(X, Y)
    mean, std = fitted.predict(X, return_std=True)
    parts = fitted.predict_uncertainty(X, kind="all")
    assert mean.shape == std.shape == parts.total.shape == Y.shape
    np.testing.assert_allclose(std**2, parts.total)
    assert fitted.predict_interval(X).shape == (*Y.shape, 2)
    assert fitted.predict_quantiles(X, [0.1, 0.5, 0.9]).shape == (*Y.shape, 3)
    assert fitted.predict_draws(X).shape == (6, *Y.shape)
    assert np.corrcoef(mean[:, 0], y)[0, 1] > 0.6 and np.corrcoef(mean[:, 1], y)[0, 1] < -0.6
    np.testing.assert_allclose(mean[:, 2], 1, atol=0.6)


def test_homoscedastic_noise_is_the_same_for_all_rows(diabetes):
    X, y = diabetes
    fitted = regressor(MCDropout(6), likelihood=Gaussian(heteroscedastic=False)).fit(X, y)
    noise = fitted.likelihood_.noise_variance_ * fitted.likelihood_.scale_**2
    np.testing.assert_allclose(fitted.predict_uncertainty(X, "aleatoric"), noise[0], rtol=1e-5)


@pytest.mark.parametrize("posterior", [PointEstimate(), MCDropout(7), DeepEnsemble(3)], ids=str)
def test_intervals_are_quantiles_of_the_mixture(posterior, diabetes):
    """Between the ends lies the level, by the distribution functions of the draws themselves."""
    X, y = diabetes
    fitted = regressor(posterior, precision="float64").fit(X, 1e3 * y)
    outputs = fitted.draws(torch.as_tensor(X)).detach()
    mixture = fitted.likelihood_.predictive(outputs)
    low, high = fitted.predict_interval(X, confidence_level=0.8).T
    for end, level in ((low, 0.1), (high, 0.9)):
        reached = mixture.cdf(torch.as_tensor(end)[:, None]).mean(0)[:, 0]
        np.testing.assert_allclose(reached.numpy(), level, atol=1e-9)
    mean, std = fitted.predict(X, return_std=True)
    np.testing.assert_allclose(mean, mixture.mean.mean(0)[:, 0].numpy())
    total = mixture.variance.mean(0) + mixture.mean.var(0, correction=0)
    np.testing.assert_allclose(std**2, total[:, 0].numpy())


@pytest.mark.parametrize("q", [0, 1, 1.5, [], [[0.5]], np.nan])
def test_bad_levels(q, diabetes):
    fitted = regressor(max_epochs=1).fit(*diabetes)
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        fitted.predict_quantiles(diabetes[0], q)
    with pytest.raises(ValueError, match="confidence_level"):
        fitted.predict_interval(diabetes[0], confidence_level=1.0)


def test_a_page_shows_names_and_runs_none():
    """In notebooks scikit-learn shows an estimator as HTML."""
    network = TorchClassifier(
        checkpoint_dir="<script>alert(1)</script>", module__activation="<img src=x>"
    )
    page = network._repr_html_()
    assert "&lt;script&gt;alert(1)" in page and "<script>alert(1)" not in page
    assert "<img src=x>" not in page


# -- parameters -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1}, "'lr' parameter of TorchClassifier"),
        ({"max_epochs": -1}, "'max_epochs' parameter"),
        ({"max_epochs": 0, "early_stopping": True}, "needs epochs to stop, got max_epochs=0"),
        ({"precision": "float8"}, "'precision' parameter"),
        ({"likelihood": Gaussian()}, "needs a likelihood for classification"),
        ({"likelihood": Categorical(label_smoothing=1.0)}, "label_smoothing"),
        ({"posterior": MCDropout(0)}, "'n_draws' parameter of MCDropout"),
        ({"device": "cuda:99"}, "device='cuda:99' is not available"),
        ({"device": "gpu"}, "device='gpu' is not available"),
        ({"module__widht": 3, "module": networks.Plain}, r"Did you mean 'width'\?"),
        ({"optimizer__weight_decy": 0.1}, r"Did you mean 'weight_decay'\?"),
        ({"module__activation": "sigmoidal"}, "activation must be one of"),
        ({"module": lambda: 3}, "expected a torch.nn.Module"),
        ({"module": networks.WithSoftmax}, "WithSoftmax ends in softmax"),
        ({"module": networks.WithSoftmax, "module__log": True}, "ends in log_softmax"),
        ({"module": lambda n_features: nn.Linear(n_features, 4)}, "expected .3, 3.: one logit"),
    ],
    ids=lambda v: "" if isinstance(v, dict) else v,
)
def test_bad_parameters(options, message, blobs):
    with pytest.raises((ValueError, TypeError), match=message):
        classifier(**options).fit(*blobs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"posterior": MCDropout}, r"write posterior=MCDropout\(\)"),
        ({"likelihood": Categorical}, r"write likelihood=Categorical\(\)"),
        ({"callbacks": ["EarlyStopping"]}, "list of skorch callbacks"),
        ({"iterator_train__batchsize": 3}, r"Did you mean 'batch_size'\?"),
        ({"optimizer__lr": 0.1}, "not a parameter of Adam that can be set"),
        ({"class_weight": {"Yes": 5.0}}, r"class_weight names 'Yes'.*Did you mean 'yes'\?"),
        ({"criterion": nn.MSELoss}, "no parameter 'criterion'. .*give likelihood="),
        ({"criterion__reduction": "sum"}, "give likelihood="),
        ({"train_split": None}, "no parameter 'train_split'. Use early_stopping=True"),
        ({"class_weight": {"no": 0, "yes": 0}}, "class_weight or sample_weight zero"),
        ({"class_weight": {"no": 0, "yes": 0, "perhaps": 0}}, "weights of all samples"),
        ({"class_weight": {"yes": -5.0}}, "must be finite and >= 0"),
        ({"callbacks__early_stoping__patience": 3}, "there is no such callback"),
        ({"early_stopping": True, "callbacks": "disable"}, "early_stopping=True needs callbacks"),
    ],
    ids=str,
)
def test_other_mistakes(options, message, blobs):
    X, y = blobs
    with pytest.raises((ValueError, TypeError), match=message):
        classifier(**options).fit(X, np.array(["no", "yes", "perhaps"])[y])


@pytest.mark.parametrize(("label", "kind"), [("0", "str"), (np.str_("1"), "str_")])
def test_a_label_of_another_type_in_class_weight(label, kind, blobs):
    with pytest.raises(ValueError, match=f"type int, and this is a {kind}") as caught:
        classifier(class_weight={label: 1.0}).fit(*blobs)
    assert "Did you mean" not in str(caught.value)


def test_parameters_of_a_default_that_is_none():
    with pytest.raises(ValueError, match="posterior is None; give an object"):
        TorchClassifier().set_params(posterior__n_draws=3)
    both = TorchClassifier().set_params(posterior=MCDropout(), posterior__n_draws=3)
    assert both.posterior.n_draws == 3


def test_errors_of_a_module_say_what_it_was_called_on(blobs, digits):
    X, y = digits
    with pytest.raises(RuntimeError) as caught:
        classifier(module=networks.ConvNet).fit(X.reshape(-1, 8, 8), y)
    assert (
        "calling ConvNet on rows of X, which has shape (n_samples, 8, 8)"
        in caught.value.__notes__[0]
    )
    with pytest.raises(TypeError) as caught:
        classifier(module=lambda num_classes: None).fit(X, y)
    assert "give its other arguments as module__*" in caught.value.__notes__[0]


def test_sequences_of_another_length():
    X = np.random.default_rng(0).normal(size=(40, 6, 8))
    fitted = classifier(module=networks.Recurrent).fit(X, (X[:, 0, 0] > 0).astype(int))
    assert fitted.predict(X[:, :4]).shape == (40,)
    with pytest.raises(RuntimeError) as caught:
        fitted.predict(X[:, :, :5])
    assert "calling Recurrent" in caught.value.__notes__[0]
    with pytest.raises(ValueError, match="NaN"):
        fitted.predict(X * np.nan)
    fitted.partial_fit(X[:, :3], (X[:, 0, 0] > 0).astype(int))
    with pytest.raises(ValueError, match="fitted on rows of shape"):
        fitted.partial_fit(X[:, 0], (X[:, 0, 0] > 0).astype(int))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_inside_of_no_grad(mode, blobs):
    X, y = blobs
    expected = classifier(MCDropout(3)).fit(X, y)
    with mode():
        fitted = classifier(MCDropout(3)).fit(X, y)
        inside = fitted.predict_proba(X)
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
    assert np.array_equal(inside, expected.predict_proba(X))
    x = torch.as_tensor(X).requires_grad_()
    fitted.draws(x).sum().backward()
    assert float(x.grad.abs().max()) > 0


def test_unknown_names():
    with pytest.raises(TypeError, match=r"no parameter 'modul__width'. Did you mean 'module"):
        TorchClassifier(modul__width=3)
    with pytest.raises(ValueError, match=r"Did you mean 'max_epochs'\?"):
        TorchClassifier().set_params(max_epoch=3)
    assert TorchClassifier().set_params(module__x=3).get_params()["module__x"] == 3


def test_an_instance_is_refused(blobs):
    with pytest.raises(TypeError, match="got an instance of Linear: pass module=Linear"):
        classifier(module=nn.Linear(10, 3)).fit(*blobs)


def test_too_few_outputs_for_a_variance(diabetes):
    with pytest.raises(ValueError, match=r"expected \(3, 2\): a mean and a log-variance"):
        regressor(module=lambda n_features: nn.Linear(n_features, 1)).fit(*diabetes)


def test_random_in_eval_mode_is_refused(blobs):
    class Noisy(networks.Plain):
        def forward(self, x):
            return super().forward(x + torch.randn_like(x))

    with pytest.raises(ValueError, match="draws random numbers"):
        classifier(module=Noisy).fit(*blobs)


def test_rows_that_depend_on_each_other_are_refused(blobs):
    class Centred(networks.Plain):
        def forward(self, x):
            return super().forward(x - x.mean(0))

    with pytest.raises(ValueError, match="change with the other rows"):
        classifier(module=Centred).fit(*blobs)


def test_modules_and_tensors_of_the_user_are_copied(blobs):
    X, y = blobs
    body = nn.Linear(10, 8)
    before = body.weight.detach().clone()
    make = lambda: classifier(DeepEnsemble(2), networks.Head, module__body=body).fit(X, y)
    one, two = make().predict_proba(X), make().predict_proba(X)
    assert torch.equal(body.weight, before) and body.training
    assert np.array_equal(one, two)
    members = make()._engine.draws.tensors(0, 2)["body.weight"]
    assert not torch.equal(members[0], members[1]) and not torch.equal(members[0], before)


def test_a_closure_over_self_is_refused(blobs):
    class Closure(networks.Plain):
        def __init__(self, n_features, n_outputs):
            super().__init__(n_features, n_outputs)
            self.call = lambda x: self.layers(x)

        def forward(self, x):
            return self.call(x)

    with pytest.raises(ValueError, match="a lambda, closure or hook that refers to `self`"):
        classifier(module=Closure).fit(*blobs)


def test_members_that_differ_in_more_than_tensors_are_refused(blobs):
    class Fourier(networks.Plain):
        def __init__(self, n_features, n_outputs, buffer):
            super().__init__(2 * n_features, n_outputs)
            frequencies = torch.randn(n_features, 2 * n_features)
            if buffer:
                self.register_buffer("frequencies", frequencies, persistent=False)
            else:
                self.frequencies = frequencies

        def forward(self, x):
            return super().forward(torch.sin(x @ self.frequencies))

    X, y = blobs
    with pytest.raises(ValueError, match="registered with register_buffer"):
        classifier(DeepEnsemble(2), Fourier, module__buffer=False).fit(X, y)
    classifier(DeepEnsemble(2), Fourier, module__buffer=True).fit(X, y)
    classifier(PointEstimate(), Fourier, module__buffer=False).fit(X, y)


def test_what_a_forward_leaves_behind(blobs):
    class Leaves(networks.Plain):
        def forward(self, x):
            self.auxiliary = self.layers[0](x).square().mean()
            return super().forward(x)

    classifier(DeepEnsemble(2), Leaves).fit(*blobs)


def test_under_another_default_dtype(blobs):
    X, y = blobs
    torch.set_default_dtype(torch.float64)
    try:
        assert classifier().fit(X, y).score(X, y) > 0.8
        classifier(module=lambda n_outputs: nn.Sequential(nn.LazyLinear(n_outputs))).fit(X, y)
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_lazy_module_and_a_tuple(blobs):
    class Lazy(nn.Module):
        def __init__(self, n_outputs):
            super().__init__()
            self.layers = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(n_outputs))

        def forward(self, x):
            return self.layers(x), x

    X, y = blobs
    one, two = (classifier(DeepEnsemble(2), Lazy).fit(X, y).predict_proba(X) for _ in range(2))
    assert np.array_equal(one, two)


@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm])
@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
def test_normalised_weights(norm, blobs):
    X, y = blobs
    fitted = classifier(DeepEnsemble(2), networks.Normed, module__norm=norm).fit(X, y)
    assert fitted.predict_uncertainty(X, "epistemic").max() > 1e-3
    if norm is nn.utils.weight_norm:  # torch does not pickle parametrised modules
        again = pickle.loads(pickle.dumps(fitted))
        assert np.array_equal(again.predict_proba(X), fitted.predict_proba(X))


@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16"])
def test_precision(precision, blobs):
    X, y = blobs
    fitted = classifier(MCDropout(4), precision=precision, max_epochs=20).fit(X, y)
    assert fitted.score(X, y) > 0.8
    expected = torch.float64 if precision == "float64" else torch.float32
    assert next(fitted.module_.parameters()).dtype == expected
    assert fitted.draws(torch.as_tensor(X)).dtype == expected


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of itself
@pytest.mark.parametrize("mode", [True, "reduce-overhead"])
def test_compile(blobs, mode):
    X, y = blobs
    compiled = classifier(compile=mode).fit(X, y)
    np.testing.assert_allclose(
        compiled.predict_proba(X), classifier().fit(X, y).predict_proba(X), atol=1e-4
    )
    assert np.array_equal(
        pickle.loads(pickle.dumps(compiled)).predict_proba(X), compiled.predict_proba(X)
    )


def test_inside_of_autocast(blobs):
    X, y = blobs
    expected = classifier(MCDropout(3)).fit(X, y).predict_proba(X)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = classifier(MCDropout(3)).fit(X, y).predict_proba(X)
    assert np.array_equal(found, expected)


def test_before_fit(blobs):
    for ask in ("predict", "predict_proba", "predict_uncertainty", "draws", "predict_draws"):
        with pytest.raises(NotFittedError):
            getattr(TorchClassifier(), ask)(blobs[0])


def test_a_failed_fit_leaves_no_fitted_estimator(blobs):
    X, y = blobs
    fitted = classifier().fit(X, y)
    with pytest.raises(ValueError, match="NaN"):
        fitted.fit(X * np.nan, y)
    with pytest.raises(NotFittedError):
        fitted.predict(X)


# -- uncertainty of a classifier --------------------------------------------------------------


def test_measures(blobs):
    X, y = blobs
    fitted = classifier(MCDropout(10)).fit(X, y)
    draws = fitted.predict_draws(X)
    mean = np.sort(draws.mean(0), axis=1)
    votes = np.stack([(draws.argmax(2) == k).mean(0) for k in range(3)], axis=1)
    expected = {
        "variance": 1 - (mean**2).sum(1),
        "variation_ratio": 1 - votes.max(1),
        "margin": 1 - (mean[:, -1] - mean[:, -2]),
        "least_confidence": 1 - mean[:, -1],
        "entropy": -(mean * np.log(mean)).sum(1),
    }
    for measure, values in expected.items():
        actual = fitted.predict_uncertainty(X, measure=measure)
        np.testing.assert_allclose(actual, values, atol=1e-6, err_msg=measure)
    parts = fitted.predict_uncertainty(X, kind="all", measure="variance")
    np.testing.assert_allclose(parts.epistemic, draws.var(0).sum(1), atol=1e-9)
    with pytest.raises(ValueError, match="does not decompose"):
        fitted.predict_uncertainty(X, kind="epistemic", measure="margin")
    with pytest.raises(ValueError, match="measure must be one of"):
        fitted.predict_uncertainty(X, measure="entropie")
    with pytest.raises(ValueError, match="kind must be one of"):
        fitted.predict_uncertainty(X, kind="both")


# -- early stopping, going on -----------------------------------------------------------------


def test_early_stopping_restores_the_best_weights(blobs):
    X, y = blobs
    fitted = classifier(early_stopping=True, max_epochs=300, n_iter_no_change=4, lr=0.05).fit(X, y)
    losses = [epoch["valid_loss"] for epoch in fitted.history_]
    assert fitted.n_iter_ == len(losses) == int(np.argmin(losses)) + 1 + 4 < 300
    _, valid = split(y, fitted)
    log_proba = fitted.predict_log_proba(X[valid])
    nll = -log_proba[np.arange(len(valid)), y[valid]].mean()
    assert nll == pytest.approx(min(losses), rel=1e-4)


def split(y, fitted, groups=None):
    from skuq._data._checks import train_valid_indices
    from skuq._utils._random import Purpose, derive_seed

    seed = derive_seed(fitted._root, Purpose.SPLIT)
    return train_valid_indices(y, groups, fitted.validation_fraction, seed, True)


def test_validation_rows_are_shuffled_and_stratified():
    from skuq._data._checks import train_valid_indices

    y = np.repeat([0, 1, 2, 3], [400, 150, 49, 1])
    train, valid = train_valid_indices(y, None, 0.1, 0, True)
    assert sorted([*train, *valid]) == list(range(600))
    assert len(valid) == 60 and np.ptp(valid) > 300
    assert np.bincount(y[valid], minlength=4).tolist() == [40, 15, 5, 0]
    again, _ = train_valid_indices(y, None, 0.1, 0, True)
    other, _ = train_valid_indices(y, None, 0.1, 1, True)
    assert np.array_equal(train, again) and not np.array_equal(train, other)
    train, valid = train_valid_indices(np.arange(100.0), None, 0.2, 0, False)
    assert len(valid) == 20 and np.ptp(valid) > 50


@pytest.mark.parametrize("stratify", [True, False])
def test_groups_stay_together(stratify):
    from skuq._data._checks import train_valid_indices

    groups = np.arange(200) // 10
    y = groups % 2
    train, valid = train_valid_indices(y, groups, 0.1, 0, stratify)
    assert not set(groups[train]) & set(groups[valid])
    assert 10 <= len(valid) <= 40


def test_each_class_keeps_a_row_in_training():
    from skuq._data._checks import train_valid_indices

    y = np.array([0, 0, 1, 2, 3, 4, 5, 6])
    for seed in range(20):
        train, valid = train_valid_indices(y, None, 0.2, seed, True)
        assert set(y[train]) == set(y) and y[valid] == [0]
    with pytest.raises(ValueError, match="every class has a single one"):
        train_valid_indices(np.arange(4), None, 0.2, 0, True)


def test_groups_reach_the_split(blobs):
    X, y = blobs
    groups = np.arange(len(y)) // 8
    one, two = (
        classifier(early_stopping=True).fit(X, y, groups=g).predict_proba(X) for g in (None, groups)
    )
    assert not np.array_equal(one, two)
    with pytest.raises(ValueError, match="at least 2 groups"):
        classifier(early_stopping=True).fit(X, y, groups=np.zeros(len(y)))


def test_too_few_rows_for_a_split():
    with pytest.raises(ValueError, match="leaves none to train on"):
        classifier(early_stopping=True, validation_fraction=0.99).fit(np.eye(3), [0, 1, 0])


@pytest.mark.parametrize("posterior", [PointEstimate(), MCDropout(3), DeepEnsemble(2)], ids=str)
def test_warm_start_goes_on(posterior, blobs):
    X, y = blobs
    warm = classifier(posterior, warm_start=True, max_epochs=15).fit(X, y)
    cold = warm.histories_
    for before, after in zip(cold, warm.fit(X, y).histories_):
        assert after[0]["train_loss"] < 0.5 * before[0]["train_loss"]
    with pytest.raises(ValueError, match=r"not in the classes.*set warm_start=False"):
        warm.fit(X, y + 1)
    with pytest.raises(ValueError, match=r"no row of \[2\]; set warm_start=False"):
        warm.fit(X, y % 2)
    assert warm.partial_fit(X, y % 2).classes_.tolist() == [0, 1, 2]


def test_a_warm_start_may_lack_rows_that_have_no_weight(blobs):
    X, y = blobs
    warm = classifier(PointEstimate(), warm_start=True, max_epochs=1)
    for _ in range(2):
        warm.fit(X, y, sample_weight=(y != 1).astype(float))
    assert warm.classes_.tolist() == [0, 1, 2]


@pytest.mark.parametrize(("factor", "offset"), [(1000, 1e5), (-1e-6, 0), (1, 0)])
def test_a_warm_start_learns_the_units_of_y(factor, offset, diabetes):
    X, y = diabetes
    warm = regressor(PointEstimate(), warm_start=True, max_epochs=40).fit(X, y)
    cold = regressor(PointEstimate(), max_epochs=40).fit(X, y)
    warm.fit(X, factor * y + offset)
    assert warm.score(X, factor * y + offset) > cold.score(X, y) - 0.05
    if factor > 0:
        assert warm.history_[0]["train_loss"] < cold.history_[10]["train_loss"]


@pytest.mark.parametrize("posterior", [PointEstimate(), MCDropout(3), DeepEnsemble(2)], ids=str)
def test_partial_fit_is_fit_in_pieces(posterior, blobs):
    """Epoch after epoch by partial_fit, pickled in between, is one fit: to the last bit, where fit
    does not train networks as a stack."""
    X, y = blobs
    if isinstance(posterior, DeepEnsemble):
        stacked = classifier(posterior, max_epochs=4).fit(X, y).predict_proba(X)
        posterior = DeepEnsemble(2, n_jobs=1)
    whole = classifier(posterior, max_epochs=4).fit(X, y)
    parts = classifier(posterior)
    for _ in range(4):
        parts = pickle.loads(pickle.dumps(parts.partial_fit(X, y)))
    assert np.array_equal(parts.predict_proba(X), whole.predict_proba(X))
    if isinstance(posterior, DeepEnsemble):
        np.testing.assert_allclose(parts.predict_proba(X), stacked, rtol=0, atol=1e-5)
    assert parts.n_iter_ == 4
    assert [e["train_loss"] for e in parts.history_] == [e["train_loss"] for e in whole.history_]


def test_partial_fit_with_classes_to_come(blobs):
    X, y = blobs
    fitted = classifier().partial_fit(X[y < 2], y[y < 2], classes=[0, 1, 2])
    assert fitted.predict_proba(X).shape == (len(X), 3)
    fitted.partial_fit(X[y == 2], y[y == 2])
    one = classifier().partial_fit(X[y == 0], y[y == 0], classes=[0, 1, 2])
    assert one.predict_proba(X).shape == (len(X), 3)
    with pytest.raises(ValueError, match=r"labels \[3\] that are not in the classes"):
        fitted.partial_fit(X, y + 1)
    with pytest.raises(ValueError, match="early_stopping"):
        classifier(early_stopping=True).partial_fit(X, y)


def test_partial_fit_takes_new_rates_and_optimizers(blobs):
    X, y = blobs
    kept = classifier().partial_fit(X, y)
    changed = pickle.loads(pickle.dumps(kept)).set_params(lr=1e-30).partial_fit(X, y)
    assert np.array_equal(changed.predict_proba(X), kept.predict_proba(X))
    kept.set_params(optimizer=torch.optim.SGD).partial_fit(X, y)
    with pytest.raises(ValueError, match="training goes on with likelihood=Categorical"):
        kept.set_params(likelihood=Categorical(0.1)).partial_fit(X, y)


def test_partial_fit_of_a_regressor(diabetes):
    X, y = diabetes
    whole = regressor(max_epochs=3).fit(X, y)
    parts = regressor()
    for _ in range(3):
        parts.partial_fit(X, y)
    assert np.array_equal(parts.predict(X), whole.predict(X))
    parts.partial_fit(X, y + 1000)  # the units stay
    assert parts.likelihood_.location_ == whole.likelihood_.location_
    with pytest.raises(ValueError, match="y has shape"):
        parts.partial_fit(X, np.column_stack([y, y]))


# -- randomness -------------------------------------------------------------------------------


@pytest.mark.parametrize("posterior", [PointEstimate(), MCDropout(3), DeepEnsemble(2)], ids=str)
@pytest.mark.parametrize("make", [classifier, regressor])
def test_refitting_is_bit_identical_and_globals_are_untouched(
    posterior, make, blobs, untouched_globals
):
    X, y = blobs
    one, two = (make(posterior, early_stopping=True).fit(X, y) for _ in range(2))
    assert np.array_equal(one.predict(X), two.predict(X))
    assert np.array_equal(one.predict_uncertainty(X), two.predict_uncertainty(X))
    one.predict_draws(X)
    other = make(posterior, random_state=1).fit(X, y)
    assert not np.array_equal(one.predict_uncertainty(X), other.predict_uncertainty(X))
    make(posterior, random_state=None, max_epochs=1).fit(X, y).predict(X)


@pytest.mark.filterwarnings("ignore:Functional draws random:UserWarning")
def test_functional_dropout_trains_from_private_generators(blobs):
    X, y = blobs
    answers = []
    for seed in (1, 2):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            fitted = classifier(DeepEnsemble(2), networks.Functional).fit(X, y)
            answers.append(fitted.predict_proba(X))
            assert torch.initial_seed() == seed
            moved = torch.rand(1)
            torch.manual_seed(seed)
            assert torch.equal(torch.rand(1), moved)  # fit drew nothing from the global one
    assert np.array_equal(*answers)


def test_a_class_that_only_has_weight_zero_keeps_its_column(blobs):
    X, y = blobs
    fitted = classifier().fit(X, y, sample_weight=(y < 2).astype(float))
    assert fitted.predict_proba(X).shape == (len(X), 3)


def test_iris_is_learnt():
    X, y = load_iris(return_X_y=True)
    fitted = TorchClassifier(lr=0.01, max_epochs=100, random_state=0).fit(X, y)
    assert fitted.score(X, y) > 0.95
