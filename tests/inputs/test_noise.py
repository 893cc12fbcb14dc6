"""Learnt scales, classifiers, refusals, and the estimator among scikit-learn's own."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import RandomForestRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.model_selection import GridSearchCV

import skuq
from skuq import TorchClassifier, TorchRegressor, TorchSegmenter
from skuq.augmentation import FeatureNoise, TestTimeAugmentation
from skuq.calibration import QuantileRecalibrator
from skuq.inputs import InputNoise
from skuq.inputs._learning import ScaleLearner
from skuq.inputs._samples import standard_samples
from skuq.likelihoods import StudentT
from skuq.metrics import nll_scorer
from skuq.posteriors import DeepEnsemble, PointEstimate
from skuq.selective import SelectiveRegressor
from tests.inputs.helpers import curve, line, noisy

QUICK = {"max_epochs": 3, "random_state": 0, "posterior": PointEstimate()}


def test_a_known_scale_is_found():
    """Errors of known variances, of one draw: to three standard errors."""
    random = np.random.default_rng(0)
    n_rows = 4000
    noise = random.uniform(0.5, 2, size=(n_rows, 1, 1, 1))
    slopes = random.normal(size=(n_rows, 1, 1, 3)) * [1.0, 10.0, 0.0]
    variance = 0.6 * noise[..., 0] + slopes**2 @ np.array([0.5, 0.1, 7.0]) ** 2
    errors = variance * random.normal(size=(n_rows, 1, 1)) ** 2
    learner = ScaleLearner(None)
    evidence = np.concatenate([errors[..., None], noise, slopes**2], axis=-1)
    learner._learn(evidence, np.zeros(n_rows), None)
    assert learner.noise_factor_ == pytest.approx(0.6, abs=0.07)
    assert learner.scale_ == pytest.approx([0.5, 0.1, 0.0], abs=0.04)
    # In other units of y and of x the same is found; a row twice is a row of weight 2.
    learner._learn(evidence * [1e6, 1e6, 1e6, 1e2, 1e6], np.zeros(n_rows), np.ones(n_rows))
    assert learner.scale_[1] == pytest.approx(10.0, abs=2.0)
    twice = np.concatenate([evidence[:50], evidence[:20]])
    weight = np.where(np.arange(50) < 20, 2.0, 1.0)
    learner._learn(twice, np.zeros(70), None)
    found = learner.scale_
    learner._learn(evidence[:50], np.zeros(50), weight)
    np.testing.assert_allclose(learner.scale_, found, atol=1e-3)


def test_noise_in_x_is_told_from_noise_in_y():
    X, y = curve(400, noise=0.05)
    seen = X + 0.2 * np.random.default_rng(1).normal(size=X.shape)
    options = {"max_epochs": 50, "lr": 0.02, "random_state": 0, "posterior": PointEstimate()}
    network = TorchRegressor(**options).fit(X[:200], y[:200])
    with_error = InputNoise(FrozenEstimator(network)).fit(seen[200:], y[200:])
    without = InputNoise(FrozenEstimator(network)).fit(X[200:], y[200:])
    assert with_error.scale_ == pytest.approx(0.2, abs=0.05)
    assert without.scale_[0] < 0.05
    parts = with_error.predict_uncertainty(np.array([[0.0], [np.pi / 4]]), kind="nested")
    assert parts.input[0] > 4 * parts.input[1]  # the sine is flat at its top
    with pytest.warns(UserWarning, match="was trained on 100%"):
        InputNoise(FrozenEstimator(network)).fit(X[:200], y[:200])


@pytest.fixture(scope="module")
def classifier():
    X, y = line()
    return TorchClassifier(
        posterior=DeepEnsemble(2), max_epochs=30, lr=0.02, random_state=0
    ).fit(X, np.where(y > 0, "up", "down"))  # fmt: skip


def test_classes_by_monte_carlo(classifier):
    """Probabilities are means over the error; the part of the inputs is what they disagree by."""
    X, _ = line()
    model = noisy(classifier, scale=0.5, n_samples=64)
    random = np.random.default_rng(1)
    moved = X[:5, None] + 0.5 * random.normal(size=(5, 1000, 3))
    expected = classifier.predict_proba(moved.reshape(-1, 3)).reshape(5, 1000, 2).mean(axis=1)
    np.testing.assert_allclose(model.predict_proba(X[:5]), expected, atol=0.03)
    parts = model.predict_uncertainty(X[:5], kind="nested")
    np.testing.assert_allclose(parts.total, parts.noise + parts.input + parts.epistemic, rtol=1e-9)
    assert (parts.input > 0).all() and model.classes_.tolist() == ["down", "up"]
    assert set(model.predict(X[:5])) <= {"down", "up"}


def test_no_error_changes_nothing(classifier):
    X, y = line()
    model = noisy(classifier, scale=0.0, n_samples=4)
    np.testing.assert_allclose(
        model.predict_proba(X), classifier.predict_proba(X), rtol=0, atol=1e-12
    )
    assert (model.predict_uncertainty(X, kind="nested").input == 0).all()
    regressor = TorchRegressor(**QUICK).fit(X, y)
    for method in ("linear", "monte_carlo"):
        exact = noisy(regressor, scale=0.0, method=method, n_samples=4)
        np.testing.assert_allclose(
            exact.predict_interval(X), regressor.predict_interval(X), rtol=1e-6, atol=1e-9
        )


def test_a_row_does_not_depend_on_others(classifier):
    X, y = line()
    regressor = TorchRegressor(**QUICK).fit(X, y)
    for fitted, method in ((classifier, "auto"), (regressor, "auto"), (regressor, "monte_carlo")):
        model = noisy(fitted, scale=0.3, method=method, n_samples=6)
        alone = np.concatenate([model.predict_uncertainty(X[k : k + 1]) for k in range(3)])
        np.testing.assert_allclose(alone, model.predict_uncertainty(X)[:3], rtol=1e-5)


def test_samples_have_the_moments_of_a_normal():
    for n_samples, n_features in ((10, 3), (64, 32), (4, 7), (2, 1)):
        found = standard_samples(n_samples, n_features, seed=0)
        assert found.shape == (n_samples, n_features)
        np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-12)
        covariance = found.T @ found / (n_samples + 1)  # the row itself is one more
        np.testing.assert_allclose(np.diag(covariance), 1, rtol=1e-9)
        if n_samples // 2 >= n_features:
            np.testing.assert_allclose(covariance, np.eye(n_features), atol=1e-9)


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        ([0.1, 0.2], r"scale has shape \(2,\), expected one number, \(3,\)"),
        (-0.1, "scale"),
        ([0.1, -0.1, 0.0], "must not be negative"),
        ([0.1, np.nan, 0.0], "NaN"),
        (np.array([[1.0, 2, 0], [2, 1, 0], [0, 0, 1]]), "covariance matrix: symmetric"),
        ([[0.1, 0, 0], [0, 0, 0], [0.3, 0, 0]], "covariance matrix: symmetric"),
        ("fits", "scale"),
        (["a", "b", "c"], "scale must hold numbers"),
    ],
    ids=str,
)
def test_scales_that_are_refused(scale, message):
    X, y = line()
    with pytest.raises(ValueError, match=message):
        InputNoise(TorchRegressor(**QUICK), scale=scale).fit(X, y)


def test_what_cannot_be_done_is_refused():
    X, y = line()
    labels = (y > 0).astype(int)
    with pytest.raises(ValueError, match="scale='fit' needs a regressor"):
        InputNoise(TorchClassifier(**QUICK)).fit(X, labels)
    with pytest.raises(ValueError, match="scale='fit' needs a regressor and its slopes"):
        InputNoise(TorchRegressor(**QUICK), method="monte_carlo").fit(X, y)
    with pytest.raises(ValueError, match="'linear' is for regressors"):
        InputNoise(TorchClassifier(**QUICK), scale=0.1, method="linear").fit(X, labels)
    with pytest.raises(ValueError, match="needs a normal distribution of y"):
        InputNoise(TorchRegressor(likelihood=StudentT(), **QUICK), cv=2).fit(X, y)
    with pytest.raises(TypeError, match="for each pixel"):
        InputNoise(TorchSegmenter(), scale=0.1).fit(np.zeros((2, 1, 8, 8)), np.zeros((2, 8, 8)))
    with pytest.raises(TypeError, match="no gradient"):
        InputNoise(GaussianProcessRegressor(optimizer=None), scale=0.1).fit(
            X, y
        ).predict_uncertainty(X)
    with pytest.raises(TypeError, match="use method='monte_carlo'"):
        noisy(RandomForestRegressor(2).fit(X, y), scale=0.1).predict_uncertainty(X)
    bad = X.copy()
    bad[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        InputNoise(TorchRegressor(**QUICK), scale=0.1).fit(X, y).predict(bad)
    with pytest.raises(ValueError, match="expecting 3 features"):
        InputNoise(TorchRegressor(**QUICK), scale=0.1).fit(X, y).predict(X[:, :2])


def test_a_gaussian_process_by_copies():
    X, y = line()
    model = InputNoise(
        GaussianProcessRegressor(optimizer=None), scale=0.1, method="monte_carlo"
    ).fit(X, y)
    assert (model.predict_uncertainty(X[:3], kind="nested").input > 0).all()


def test_files_copies_pickles_and_searches(tmp_path):
    X, y = line()
    for model in (
        InputNoise(TorchRegressor(**QUICK), cv=2),
        InputNoise(TorchClassifier(**QUICK), scale=[0.1, 0.2, 0.3], n_samples=4),
    ):
        target = y if isinstance(model.estimator, TorchRegressor) else y > 0
        model.fit(X, target, sample_weight=np.linspace(0.5, 1, len(X)))
        skuq.save(model, tmp_path / "model.skuq")
        for other in (
            skuq.load(tmp_path / "model.skuq"),
            pickle.loads(pickle.dumps(model)),
            clone(model).fit(X, target, sample_weight=np.linspace(0.5, 1, len(X))),
        ):
            expected, found = model.predict_uncertainty(X), other.predict_uncertainty(X)
            assert np.array_equal(expected, found)
    search = GridSearchCV(
        InputNoise(TorchRegressor(**QUICK), scale=0.1),
        {"scale": [0.01, 1.0]}, cv=2, scoring=nll_scorer,
    ).fit(X, y)  # fmt: skip
    assert skuq.predict_uncertainty(search, X, kind="all").total.shape == (len(X),)


@pytest.mark.parametrize("method", ["linear", "monte_carlo"])
def test_inside_of_others(method):
    """Views of test-time augmentation, calibrators that interpolate, answers or refusals."""
    X, y = line()
    model = InputNoise(TorchRegressor(**QUICK), scale=0.1, method=method, n_samples=4)
    views = TestTimeAugmentation(model, [FeatureNoise(0.1)], random_state=0).fit(X, y)
    assert views.predict_interval(X[:3]).shape == (3, 2)
    chosen = SelectiveRegressor(model, coverage=0.5, random_state=0).fit(X, y)
    assert 0 < chosen.accept(X).mean() < 1
    mapped = clone(model).set_params(estimator=QuantileRecalibrator(model.estimator, cv=2))
    mapped.fit(X, y)
    if method == "monte_carlo":
        assert mapped.predict_interval(X[:3]).shape == (3, 2)
    else:
        with pytest.raises(TypeError, match="use method='monte_carlo'"):
            mapped.predict_interval(X[:3])


def test_data_frames():
    pandas = pytest.importorskip("pandas")
    X, y = line()
    frame = pandas.DataFrame(X, columns=["a", "b", "c"])
    for method in ("linear", "monte_carlo"):
        model = InputNoise(TorchRegressor(**QUICK), scale=0.1, method=method, n_samples=4)
        found = model.fit(frame, y).predict_uncertainty(frame)
        assert np.array_equal(found, clone(model).fit(X, y).predict_uncertainty(X))
        assert model.feature_names_in_.tolist() == ["a", "b", "c"]
