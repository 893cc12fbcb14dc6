"""Networks that something else has trained, given as instances: skuq.from_trained."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from torch import nn
from torch.utils.data import IterableDataset, TensorDataset

from skuq import TorchClassifier, TorchRegressor, from_trained
from skuq.likelihoods import Bernoulli, Categorical, Gaussian, Poisson, Quantile, StudentT
from skuq.posteriors import DeepEnsemble, LastLayerLaplace, MCDropout, PointEstimate
from tests import networks

POINT = PointEstimate()
LAST = MCDropout(10, p=0.2, where="last")


class Net(nn.Module):
    """Batch normalisation, no dropout."""

    def __init__(self, n_features=10, n_outputs=3):
        super().__init__()
        self.norm = nn.BatchNorm1d(n_features)
        self.inner = nn.Linear(n_features, 16)
        self.head = nn.Linear(16, n_outputs)

    def forward(self, x):
        return self.head(torch.relu(self.inner(self.norm(x))))


def trained(X, target, loss, n_outputs, module=Net, n_epochs=60):
    torch.manual_seed(0)
    network = module(X.shape[1], n_outputs)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    x = torch.as_tensor(X, dtype=torch.float32)
    for _ in range(n_epochs):
        optimizer.zero_grad()
        loss(network(x), target).backward()
        optimizer.step()
    return network


@pytest.fixture
def network(blobs):
    """In training mode, as a loop leaves it."""
    X, y = blobs
    return trained(X[::2], torch.as_tensor(y[::2]), nn.functional.cross_entropy, 3)


def _labelled(blobs):
    X, y = blobs
    return X, torch.as_tensor(y)


def outputs(network, X, dtype=torch.float32):
    with torch.no_grad():
        return copy.deepcopy(network).eval()(torch.as_tensor(X, dtype=dtype)).double().numpy()


def softmax(z):
    return np.exp(z) / np.exp(z).sum(1, keepdims=True)


def classifier(network, blobs, posterior=POINT, **options):
    X, y = blobs
    options = {"task": "classification", "random_state": 0, **options}
    return from_trained(network, X[1::2], y[1::2], posterior=posterior, **options)


# -- the network stays as it is --------------------------------------------------------------------


def test_a_classifier_gives_its_eval_outputs(network, blobs, untouched_globals):
    X, _ = blobs
    before = copy.deepcopy(network.state_dict())
    model = classifier(network, blobs)
    assert isinstance(model, TorchClassifier) and type(model.likelihood) is Categorical
    np.testing.assert_allclose(model.predict_proba(X), softmax(outputs(network, X)), atol=1e-6)
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())
    assert network.training and network.norm.training
    with torch.no_grad():
        network.head.weight.zero_()  # later changes have no effect
    assert model.score(X, blobs[1]) > 0.8


def test_labels_are_those_of_the_outputs_in_order(network, blobs):
    X, y = blobs
    names = np.array(["a", "b", "c"])[y]
    model = from_trained(network, X, names, task="classification", posterior=POINT)
    expected = outputs(network, X).argmax(1)
    assert (model.predict(X) == np.array(["a", "b", "c"])[expected]).all()


def test_labels_that_have_no_row(network, blobs):
    """Integers are the numbers of outputs, others must be given."""
    X, y = blobs
    some = y != 1
    options = {"task": "classification", "posterior": POINT}
    model = from_trained(network, X[some], y[some], **options)
    assert list(model.classes_) == [0, 1, 2]
    np.testing.assert_allclose(model.predict_proba(X), softmax(outputs(network, X)), atol=1e-6)
    names = np.array(["a", "b", "c"])[y]
    with pytest.raises(ValueError, match=r"3 outputs, but y has 2 labels, \['a' 'c'\].*classes="):
        from_trained(network, X[some], names[some], **options)
    given = from_trained(network, X[some], names[some], classes=["a", "b", "c"], **options)
    np.testing.assert_array_equal(given.predict_proba(X), model.predict_proba(X))
    with pytest.raises(ValueError, match=r"\['a', 'a', 'c'\] must be .* all labels, each once"):
        from_trained(network, X[some], names[some], classes=["a", "a", "c"], **options)
    with pytest.raises(ValueError, match="3 outputs, but y has 4 labels"):
        from_trained(network, X, np.arange(len(X)) % 4, **options)


def test_one_logit(blobs):
    X, y = blobs
    binary = (y == 2).astype(int)
    target = torch.as_tensor(binary, dtype=torch.float32)[:, None]
    network = trained(X, target, nn.functional.binary_cross_entropy_with_logits, 1)
    model = from_trained(network, X, binary, task="classification", posterior=POINT)
    assert isinstance(model.likelihood, Bernoulli)
    p = 1 / (1 + np.exp(-outputs(network, X)[:, 0]))
    np.testing.assert_allclose(model.predict_proba(X)[:, 1], p, atol=1e-6)
    several = np.stack([binary, 1 - binary], 1)
    both = from_trained(Net(10, 2), X, several, task="classification", posterior=POINT)
    assert isinstance(both.likelihood, Bernoulli) and both.predict_proba(X).shape == (240, 2)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("heteroscedastic", [False, True])
def test_a_regressor_reads_the_units_of_training(scaled, heteroscedastic, diabetes):
    """Of y itself, or as it was standardised, by whatever rows."""
    X, y = diabetes
    location, scale = (140.0, 75.0) if scaled else (0.0, 1.0)
    target = torch.as_tensor((y - location) / scale, dtype=torch.float32)

    def loss(output, target):
        return (output[:, 0] - target).square().mean() + output[:, 1:].square().mean()

    network = trained(X, target, lambda o, t: loss(o, t), 1 + heteroscedastic, n_epochs=300)
    model = from_trained(
        network, X[1::2], y[1::2], task="regression", posterior=POINT, precision="float64",
        target_scale=(location, scale) if scaled else None,
    )  # fmt: skip
    assert model.likelihood.heteroscedastic == heteroscedastic
    out = outputs(copy.deepcopy(network).double(), X, torch.float64)
    mean, std = model.predict(X, return_std=True)
    np.testing.assert_allclose(mean, location + scale * out[:, 0], rtol=1e-9)
    floor = 1e-6 * np.var(y[1::2]) / scale**2
    if heteroscedastic:
        np.testing.assert_allclose(std, scale * np.sqrt(np.exp(out[:, 1]) + floor), rtol=1e-9)
    else:  # the noise of the calibration rows
        rms = np.sqrt(np.mean((y - mean)[1::2] ** 2))
        np.testing.assert_allclose(std, rms, rtol=1e-6)


def test_likelihoods_of_the_user(diabetes):
    """They keep their parameters, and are not changed."""
    X, y = diabetes

    class Constant(nn.Module):
        def __init__(self, n_outputs):
            super().__init__()
            self.out = nn.Parameter(torch.zeros(n_outputs))

        def forward(self, x):
            return self.out.expand(len(x), -1)

    def made(n_outputs, likelihood, y=y, **options):
        with torch.no_grad():
            module = Constant(n_outputs)
            module.out[0] = 5.0
        options = {"task": "regression", "posterior": POINT, **options}
        return from_trained(module, X[:19], y[:19], likelihood=likelihood, **options)

    own = StudentT(df=5.0)
    model = made(2, own, target_scale=(100.0, 10.0))
    assert own.standardise is True
    assert model.likelihood.get_params() == {**own.get_params(), "standardise": (100.0, 10.0)}
    np.testing.assert_allclose(model.predict(X[:3]), 150.0)
    np.testing.assert_allclose(made(2, StudentT(standardise=(0, 2))).predict(X[:3]), 10.0)
    rate = made(1, Poisson()).predict(X[:3])
    np.testing.assert_allclose(rate, np.exp(5), rtol=1e-5)
    two = np.stack([y, -y], 1)
    assert made(2, None, two).likelihood.heteroscedastic is False
    assert made(4, None, two).likelihood.heteroscedastic is True
    with pytest.raises(ValueError, match="3 outputs for 1 targets; expected 1, means, or 2"):
        made(3, None)
    assert made(3, Quantile(q=(0.1, 0.5, 0.9)), target_scale=None).likelihood.standardise is False
    with pytest.raises(ValueError, match="both give the units of the network"):
        made(2, StudentT(standardise=False), target_scale=(0, 1))
    with pytest.raises(ValueError, match="'standardise' parameter of Poisson"):
        made(1, Poisson(), target_scale=(0, 1))


# -- what it tells ---------------------------------------------------------------------------------


def test_it_tells_what_it_found(network, blobs, capsys):
    model = classifier(network, blobs)
    assert capsys.readouterr().out == ""
    summary = model.network_
    assert (summary.name, summary.n_outputs, summary.last_layer) == ("Net", 3, "head")
    assert summary.n_parameters == sum(p.numel() for p in network.parameters())
    assert summary.dropout_layers == summary.inserted_dropout == {}
    assert str(summary) == "Net: 3 outputs, 247 parameters, last layer 'head', no dropout layers"
    inserted = classifier(network, blobs, LAST, verbose=1)
    out = capsys.readouterr().out
    assert "last layer 'head', dropout inserted before 'head' (p = 0.2)\nCategorical(" in out
    assert "one logit for each of 3 classes" in out
    assert inserted.network_.inserted_dropout == {"head": 0.2}
    residual = trained(*_labelled(blobs), nn.functional.cross_entropy, 3, networks.ResidualNet)
    own = classifier(residual, blobs, MCDropout(5))
    assert own.network_.dropout_layers == {"dropout": 0.2}
    assert str(own.network_).endswith("last layer 'outer', dropout layers 'dropout' (p = 0.2)")


@pytest.mark.filterwarnings("ignore:the network predicts these rows worse:UserWarning")
def test_what_follows_the_last_linear_layer_is_seen(blobs):
    network = nn.Sequential(nn.Linear(10, 3), nn.LayerNorm(3))
    model = classifier(network, blobs)
    assert model.network_.last_layer is None
    assert "no nn.Linear at its end" in str(model.network_)


# -- what follows ----------------------------------------------------------------------------------


def test_clones_begin_with_the_trained_weights(network, blobs):
    X, y = blobs
    model = classifier(network, blobs, LAST)
    again = clone(model)
    assert again.module is model.module and repr(again) == repr(model)
    again.fit(X[1::2], y[1::2])
    np.testing.assert_array_equal(again.predict_draws(X), model.predict_draws(X))
    assert cross_val_score(model, X, y, cv=3).min() > 0.8
    grid = {"posterior__p": [0.1, 0.3]}
    search = GridSearchCV(model, grid, scoring="neg_log_loss", cv=3).fit(X, y)
    assert torch.equal(search.best_estimator_.module_.inner.weight, network.inner.weight)
    p = search.best_params_["posterior__p"]
    assert search.best_estimator_.network_.inserted_dropout == {"head": p}


def test_the_parameter_makes_copies(network, blobs):
    model = classifier(network, blobs)
    copies = model.module(), model.module()
    assert copies[0] is not copies[1]
    with torch.no_grad():
        copies[0].head.weight.zero_()
    assert torch.equal(model.module().head.weight, network.head.weight)
    other = classifier(trained(*_labelled(blobs), nn.functional.cross_entropy, 3), blobs)
    assert repr(model.module).startswith("TrainedNetwork(Net, ")
    assert repr(other.module) != repr(model.module)


def test_training_goes_on_from_there(network, blobs):
    X, y = blobs
    model = classifier(network, blobs, lr=1e-9)
    model.partial_fit(X, y)
    assert model.n_iter_ == 1
    torch.testing.assert_close(model.module_.inner.weight, network.inner.weight, atol=1e-6, rtol=0)
    tuned = clone(model).set_params(max_epochs=2, lr=1e-3).fit(X, y)
    assert not torch.equal(tuned.module_.inner.weight, network.inner.weight)
    assert torch.equal(clone(tuned).set_params(max_epochs=0).fit(X, y).module_.inner.weight,
                       network.inner.weight)  # fmt: skip


def test_pickles(network, blobs):
    X, _ = blobs
    model = classifier(network, blobs, LAST)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_draws(X), model.predict_draws(X))
    assert repr(again.module) == repr(model.module)
    assert copy.deepcopy(model).module is model.module


def test_functions_and_ensembles(network, blobs):
    X, _ = blobs
    by_function = classifier(lambda: network, blobs)
    np.testing.assert_array_equal(
        by_function.predict_proba(X), classifier(network, blobs).predict_proba(X)
    )
    members = iter([network, trained(*_labelled(blobs), nn.functional.cross_entropy, 3)])
    ensemble = classifier(lambda: next(members), blobs, DeepEnsemble(2))
    assert (ensemble.predict_uncertainty(X, "epistemic") > 0).any()
    with pytest.raises(ValueError, match="needs 2 trained networks, but module is one"):
        classifier(network, blobs, DeepEnsemble(2))


def test_datasets_and_weights(network, blobs):
    X, y = blobs
    x = torch.as_tensor(X[1::2], dtype=torch.float32)
    dataset = TensorDataset(x, torch.as_tensor(y[1::2]))
    model = from_trained(network, dataset, task="classification", posterior=POINT)
    plain = classifier(network, blobs)
    np.testing.assert_array_equal(model.predict_proba(X), plain.predict_proba(X))

    class Stream(IterableDataset):
        def __iter__(self):
            return iter(dataset)

    model = from_trained(network, Stream(), task="classification", posterior=POINT)
    np.testing.assert_array_equal(model.predict_proba(X), plain.predict_proba(X))
    weight = np.zeros(len(y))
    weight[::3] = 1
    weighted = from_trained(
        network, X, y, task="classification", posterior=POINT, sample_weight=weight
    )
    np.testing.assert_array_equal(weighted.predict_proba(X), plain.predict_proba(X))


def test_half_precision_and_lists(network, blobs):
    X, y = blobs
    model = from_trained(
        copy.deepcopy(network).half(), X[1::2].tolist(), y[1::2].tolist(),
        task="classification", posterior=POINT,
    )  # fmt: skip
    np.testing.assert_allclose(model.predict_proba(X), softmax(outputs(network, X)), atol=5e-3)


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "match"),
    [
        (nn.Softmax(1), r"ends in softmax.*It is layer '1': setattr\(module, '1', torch.nn.Iden"),
        (nn.LogSoftmax(1), "ends in log_softmax.*It is layer '1'"),
        (nn.Sigmoid(), "ends in sigmoid.*It is layer '1'"),
    ],
)
def test_endings(end, match, network, blobs):
    module = nn.Sequential(network, end)
    with pytest.raises(ValueError, match=match):
        classifier(module, blobs)
    setattr(module, "1", nn.Identity())
    classifier(module, blobs)


def test_a_sigmoid_of_one_output(blobs):
    X, y = blobs

    class Nested(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.Sequential(nn.Linear(10, 1), nn.Sigmoid())

        def forward(self, x):
            return self.block(x)

    with pytest.raises(ValueError, match=r"ends in sigmoid.*get_submodule\('block'\), '1'"):
        from_trained(Nested(), X, y == 0, task="classification", posterior=POINT)


def test_what_is_no_trained_network(network, blobs):
    def refused(error, match, module, **options):
        with pytest.raises(error, match=match):
            classifier(module, blobs, **options)

    refused(TypeError, "got OrderedDict. For a state dict", network.state_dict())
    refused(TypeError, "got str. For a file", "network.pt")
    refused(TypeError, r"give its network, TorchClassifier.module_", classifier(network, blobs))
    refused(TypeError, "got int", 3)
    refused(ValueError, "Net is a class that draws its weights at random", Net)
    refused(ValueError, "'weight' of LazyLinear has no shape yet", nn.LazyLinear(3))
    with pytest.warns(DeprecationWarning):
        scripted = torch.jit.script(network)
    refused(TypeError, r"torch\.jit", scripted)
    refused(TypeError, "from_trained trains nothing", network, max_epochs=3)
    refused(TypeError, "module__width is a parameter for building", network, module__width=3)
    refused(ValueError, "'task' parameter of from_trained", network, task="ranking")
    refused(ValueError, "'posterior' parameter of from_trained", network, posterior=MCDropout)
    refused(ValueError, "'target_scale' parameter", network, target_scale=3)
    refused(ValueError, "target_scale is for task='regression'", network, target_scale=(0, 1))
    refused(TypeError, "has no parameter 'epochs'", network, epochs=3)
    refused(ValueError, "needs a likelihood for classification", network, likelihood=Gaussian())
    refused(ValueError, "no nn.Dropout with p > 0.*insert dropout", network, posterior=MCDropout())
    X, _ = blobs
    with pytest.raises(ValueError, match="classes is for task='classification'"):
        from_trained(Net(10, 1), X, X[:, 0], task="regression", posterior=POINT, classes=[0])
    with pytest.raises(ValueError, match="continuous"):
        from_trained(network, X, X[:, 0], task="classification", posterior=POINT)
    with torch.no_grad():
        network.head.bias[0] = torch.nan
    refused(ValueError, "NaN", network)


def test_a_forward_that_uses_the_original(blobs):
    network = Net()
    network.forward = lambda x: network.head(torch.relu(network.inner(network.norm(x))))
    with pytest.raises(ValueError, match="uses tensors of the original"):
        classifier(network, blobs)


def test_outputs_that_mean_something_else(network, diabetes, blobs):
    X, y = blobs
    turned = np.array([1, 2, 0])[y]
    with pytest.warns(UserWarning, match=r"worse than chance \(accuracy 0.*sorted labels, \[0"):
        from_trained(network, X, turned, task="classification", posterior=POINT)
    X, y = diabetes
    target = torch.as_tensor((y - y.mean()) / y.std(), dtype=torch.float32)[:, None]
    regressor = trained(X, target, nn.functional.mse_loss, 1)
    options = {"task": "regression", "posterior": POINT}
    with pytest.warns(UserWarning, match="worse than the mean of y.*give target_scale="):
        from_trained(regressor, X, y, **options)
    model = from_trained(regressor, X, y, target_scale=(y.mean(), y.std()), **options)
    assert isinstance(model, TorchRegressor) and model.score(X, y) > 0.3


def test_the_default_is_the_laplace_approximation_of_the_last_layer(network, blobs):
    X, _ = blobs
    model = classifier(network, blobs, posterior=None)
    assert isinstance(model.posterior, LastLayerLaplace)
    assert model.posterior_.layer_ == model.network_.last_layer == "head"
    assert (model.predict_uncertainty(X, "epistemic") > 0).all()
    sharp = classifier(network, blobs, LastLayerLaplace(prior_precision=1e12))
    np.testing.assert_allclose(sharp.predict_proba(X), softmax(outputs(network, X)), atol=1e-5)


def test_the_default_knows_the_units_of_a_regression(diabetes):
    """In units of y, epistemic uncertainty is the size that it is in standardised ones."""
    X, y = diabetes
    target = torch.as_tensor(y, dtype=torch.float32)[:, None]
    network = trained(X, target, nn.functional.mse_loss, 1, n_epochs=600)
    model = from_trained(network, X, y, task="regression", random_state=0)
    parts = model.predict_uncertainty(X, kind="all")
    assert 0.01 < np.mean(parts.epistemic / parts.aleatoric) < 1
