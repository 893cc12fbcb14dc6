"""Validation rows of the user: X_val, y_val and sample_weight_val of `fit`."""

import copy

import numpy as np
import pytest
import sklearn
import torch
from scipy.stats import norm
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback
from torch.utils.data import StackDataset, TensorDataset

from skuq import TorchClassifier, TorchDenseRegressor, TorchRegressor, TorchSegmenter
from skuq.calibration import TemperatureScaler
from skuq.likelihoods import Gaussian
from skuq.posteriors import DeepEnsemble, LastLayerLaplace, PointEstimate

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(60, 3)).astype(np.float32)
Y = X @ [1.0, -2.0, 0.5] + 0.3 * RANDOM.normal(size=60)
X_VAL = RANDOM.normal(size=(25, 3)).astype(np.float32)
Y_VAL = X_VAL @ [1.0, -2.0, 0.5] + 0.3 * RANDOM.normal(size=25)
LABELS, LABELS_VAL = np.array(["a", "b", "c"])[np.digitize(Y, [-1, 1])], np.full(25, "b")


def regressor(**options):
    defaults = {
        "posterior": PointEstimate(), "module__hidden_layer_sizes": (6,), "max_epochs": 4,
        "random_state": 0, "precision": "float64",
    }  # fmt: skip
    return TorchRegressor(**(defaults | options))


def classifier(**options):
    defaults = {"posterior": PointEstimate(), "module__hidden_layer_sizes": (6,), "max_epochs": 4}
    return TorchClassifier(**({"random_state": 0} | defaults | options))


def weights(estimator):
    return np.concatenate([p.detach().numpy().ravel() for p in estimator.module_.parameters()])


def valid_loss(estimator, network=0):
    return [epoch["valid_loss"] for epoch in estimator.histories_[network]]


def by_hand(fitted, X, y, sample_weight=None):
    """Compute the mean negative log-likelihood under the trained network."""
    network = copy.deepcopy(fitted)
    network.likelihood_.variance_factor_ = None  # learnt from these rows afterwards
    mean, std = network.predict(X, return_std=True)
    return -np.average(norm.logpdf(y, mean, std), weights=sample_weight)


def test_they_are_watched_and_change_nothing_else():
    plain = regressor(early_stopping=False).fit(X, Y)
    watched = regressor(early_stopping=False).fit(X, Y, X_val=X_VAL, y_val=Y_VAL + 100)
    assert np.array_equal(weights(watched), weights(plain))
    assert watched.likelihood_.location_ == plain.likelihood_.location_
    assert "valid_loss" not in plain.history_[0]
    assert valid_loss(watched)[-1] == pytest.approx(by_hand(plain, X_VAL, Y_VAL + 100))


def test_weights_of_validation_rows():
    weight = np.arange(25.0)
    fitted = regressor(early_stopping=False).fit(
        X, Y, X_val=X_VAL, y_val=Y_VAL, sample_weight_val=weight
    )
    assert valid_loss(fitted)[-1] == pytest.approx(by_hand(fitted, X_VAL, Y_VAL, weight))
    with pytest.raises(
        ValueError, match=r"X_val and y_val cannot be used: .*non-zero|zero for every"
    ):
        regressor().fit(X, Y, X_val=X_VAL, y_val=Y_VAL, sample_weight_val=0 * weight)


def test_early_stopping_keeps_the_best_epoch_on_them():
    options = {"max_epochs": 60, "n_iter_no_change": 5, "lr": 0.05}
    fitted = regressor(**options).fit(X, Y, X_val=X_VAL, y_val=-Y_VAL)  # "auto" is on
    losses = valid_loss(fitted)
    assert len(losses) == int(np.argmin(losses)) + 1 + 5 < 60
    assert min(losses) == pytest.approx(by_hand(fitted, X_VAL, -Y_VAL))
    unwatched = regressor(**options, early_stopping=True).fit(X, Y)
    assert len(unwatched.history_) > len(losses)


def test_all_members_of_an_ensemble_watch_them():
    ensemble = regressor(posterior=DeepEnsemble(3), max_epochs=40, n_iter_no_change=2, lr=0.05)
    ensemble.fit(X, Y, X_val=X_VAL, y_val=-Y_VAL)
    assert len(ensemble.histories_) == 3
    for number in range(3):
        losses = valid_loss(ensemble, number)
        assert len(losses) == int(np.argmin(losses)) + 1 + 2 < 40
    looped = regressor(posterior=DeepEnsemble(3, n_jobs=1), max_epochs=40, n_iter_no_change=2)
    looped.set_params(lr=0.05).fit(X, Y, X_val=X_VAL, y_val=-Y_VAL)
    np.testing.assert_allclose(valid_loss(looped, 2), valid_loss(ensemble, 2), rtol=1e-6)


class Recorder(Callback):
    seen = []  # each network gets a copy of the callback

    def on_epoch_end(self, net, **kwargs):
        self.seen.append(net.history[-1, "valid_loss"])


def test_callbacks_of_skorch_see_their_loss():
    Recorder.seen.clear()
    fitted = regressor(callbacks=[Recorder()], early_stopping=False)
    fitted.fit(X, Y, X_val=X_VAL, y_val=Y_VAL)
    assert Recorder.seen == valid_loss(fitted) and len(Recorder.seen) == 4


def test_a_noise_level_is_learnt_from_them():
    fitted = regressor(likelihood=Gaussian(heteroscedastic=False), early_stopping=False)
    fitted.fit(X, Y, X_val=X_VAL, y_val=Y_VAL)
    expected = np.mean((Y_VAL - fitted.predict(X_VAL)) ** 2)
    np.testing.assert_allclose(fitted.predict_uncertainty(X), expected, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:prior_precision='validation' ends at the bound")
def test_a_prior_is_chosen_on_them():
    laplace = regressor(posterior=LastLayerLaplace(prior_precision="validation"), max_epochs=20)
    laplace.set_params(early_stopping=False)
    near = laplace.fit(X, Y, X_val=X_VAL, y_val=laplace.fit(X, Y, X_val=X, y_val=Y).predict(X_VAL))
    chosen = near.posterior_.prior_precision_
    far = laplace.fit(X, Y, X_val=X_VAL, y_val=Y_VAL + 100)
    assert chosen > far.posterior_.prior_precision_  # the worse the fit, the wider the draws


def test_classes_may_be_missing_and_class_weights_are_those_of_y():
    fitted = classifier(class_weight="balanced", early_stopping=False)
    fitted.fit(X, LABELS, X_val=X_VAL, y_val=LABELS_VAL)
    of_label = fitted.predict_log_proba(X_VAL)[:, 1]
    assert valid_loss(fitted)[-1] == pytest.approx(-of_label.mean(), rel=1e-5)
    with pytest.raises(ValueError, match=r"y_val contains labels \['d'\] that y does not"):
        classifier().fit(X, LABELS, X_val=X_VAL, y_val=np.full(25, "d"))
    with pytest.raises(ValueError, match="y_val contains labels"):
        classifier().fit(X, LABELS, X_val=X_VAL, y_val=np.zeros(25))


def test_datasets_frames_and_memory_maps(tmp_path):
    pd = pytest.importorskip("pandas")
    expected = valid_loss(regressor().fit(X, Y, X_val=X_VAL, y_val=Y_VAL))
    rows = TensorDataset(torch.as_tensor(X_VAL), torch.as_tensor(Y_VAL))
    assert valid_loss(regressor().fit(X, Y, X_val=rows)) == expected
    training = TensorDataset(torch.as_tensor(X), torch.as_tensor(Y))
    streamed = regressor().fit(training, X_val=X_VAL, y_val=Y_VAL)
    np.testing.assert_allclose(valid_loss(streamed), expected)
    frame, frame_val = (pd.DataFrame(rows, columns=list("abc")) for rows in (X, X_VAL))
    assert valid_loss(regressor().fit(frame, Y, X_val=frame_val, y_val=Y_VAL)) == expected
    with pytest.raises(ValueError, match="feature names"):
        regressor().fit(frame, Y, X_val=frame_val[["c", "b", "a"]], y_val=Y_VAL)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"y_val": Y_VAL}, "expected X_val, got None"),
        ({"sample_weight_val": Y_VAL}, "expected X_val, got None"),
        ({"X_val": X_VAL}, "expected y_val"),
        ({"X_val": X_VAL[:, :2], "y_val": Y_VAL}, "cannot be used: X has 2 features"),
        ({"X_val": X_VAL, "y_val": Y_VAL[1:]}, "cannot be used: .*inconsistent numbers"),
        ({"X_val": X_VAL[:0], "y_val": Y_VAL[:0]}, "cannot be used: Found array with 0 sample"),
        ({"X_val": X_VAL * np.nan, "y_val": Y_VAL}, "cannot be used: Input X contains NaN"),
        ({"X_val": X_VAL, "y_val": np.full(25, np.inf)}, "cannot be used: Input y contains"),
        ({"X_val": X_VAL[:, :, None], "y_val": Y_VAL}, "cannot be used: X has rows of shape"),
        ({"X_val": X_VAL, "y_val": np.column_stack([Y_VAL] * 2)}, "cannot be used: y "),
        (
            {"X_val": TensorDataset(torch.as_tensor(X_VAL), torch.as_tensor(Y_VAL)), "y_val": Y},
            "expected y=None",
        ),
    ],
)
def test_rows_that_cannot_be_used(given, message):
    with pytest.raises(ValueError, match=message):
        regressor().fit(X, Y, **given)


def test_one_row_and_other_types():
    fitted = regressor(early_stopping=False).fit(X, Y, X_val=X_VAL[:1].tolist(), y_val=[1])
    assert valid_loss(fitted)[-1] == pytest.approx(by_hand(fitted, X_VAL[:1], [1.0]))


def test_through_a_pipeline():
    with sklearn.config_context(enable_metadata_routing=True):
        network = regressor().set_fit_request(X_val=True, y_val=True)
        pipeline = make_pipeline(StandardScaler(), network, transform_input=["X_val"])
        pipeline.fit(X, Y, X_val=X_VAL, y_val=Y_VAL)
    scaler = StandardScaler().fit(X)
    own = regressor().fit(scaler.transform(X), Y, X_val=scaler.transform(X_VAL), y_val=Y_VAL)
    assert valid_loss(pipeline[-1]) == valid_loss(own)


def test_through_a_calibrator():
    scaler = TemperatureScaler(classifier(max_epochs=2), cv=2)
    scaler.fit(X, LABELS, X_val=X_VAL, y_val=LABELS_VAL)
    alone = classifier(max_epochs=2).fit(X, LABELS, X_val=X_VAL, y_val=LABELS_VAL)
    assert valid_loss(scaler.estimator_) == valid_loss(alone)
    with pytest.raises(ValueError, match="TemperatureScaler is frozen: leave X_val out"):
        TemperatureScaler(FrozenEstimator(alone)).fit(X, LABELS, X_val=X_VAL, y_val=LABELS_VAL)
    inside = TemperatureScaler(make_pipeline(StandardScaler(), classifier()), cv=2)
    with pytest.raises(ValueError, match="fit of Pipeline does not take it"):
        inside.fit(X, LABELS, X_val=X_VAL, y_val=LABELS_VAL)


IMAGES = RANDOM.normal(size=(6, 1, 4, 4)).astype(np.float32)
ONE = torch.nn.Conv2d


@pytest.mark.parametrize("kind", [TorchSegmenter, TorchDenseRegressor])
def test_images(kind):
    maps = (IMAGES[:, 0] > 0).astype(int) if kind is TorchSegmenter else IMAGES[:, 0] * 2
    options = {"module__in_channels": 1, "module__out_channels": 2, "module__kernel_size": 1}
    fitted = kind(ONE, posterior=PointEstimate(), max_epochs=3, random_state=0, **options)
    fitted.fit(IMAGES[:4], maps[:4], X_val=IMAGES[4:], y_val=maps[4:])
    assert len(valid_loss(fitted)) == 3
    pairs = StackDataset(torch.as_tensor(IMAGES[4:]), torch.as_tensor(maps[4:]))
    losses = valid_loss(fitted)
    np.testing.assert_allclose(
        valid_loss(fitted.fit(IMAGES[:4], maps[:4], X_val=pairs)), losses, rtol=1e-5
    )
    if kind is TorchSegmenter:
        of_label = np.take_along_axis(
            fitted.predict_log_proba(IMAGES[4:]), maps[4:][:, None], axis=1
        )
        assert losses[-1] == pytest.approx(-of_label.mean(), rel=1e-5)
        with pytest.raises(ValueError, match="X_val and y_val cannot be used: y contains labels"):
            fitted.fit(IMAGES[:4], maps[:4], X_val=IMAGES[4:], y_val=maps[4:] + 5)
    with pytest.raises(ValueError, match="expected one size"):
        fitted.fit(IMAGES[:4], maps[:4], X_val=IMAGES[4:, :, :2], y_val=maps[4:, :2])


def test_checkpoints_know_them(tmp_path):
    fitted = regressor(checkpoint_dir=tmp_path / "a", early_stopping=False)
    fitted.fit(X, Y, X_val=X_VAL, y_val=Y_VAL)
    plain = regressor(early_stopping=False).fit(X, Y, X_val=X_VAL, y_val=Y_VAL)
    assert np.array_equal(weights(fitted), weights(plain))
