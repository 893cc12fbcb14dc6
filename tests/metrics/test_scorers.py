"""Scorers: what they say, where they work, and how often the posterior is evaluated."""

import pickle
import pydoc

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import RandomForestClassifier
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.inspection import permutation_importance
from sklearn.linear_model import BayesianRidge, LinearRegression, LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import (
    GridSearchCV,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skuq
from skuq import TorchClassifier, TorchRegressor
from skuq import metrics as m
from skuq._engine._engine import Engine
from skuq.calibration import TemperatureScaler, VarianceScaler
from skuq.posteriors import DeepEnsemble, MCDropout

CLASSIFICATION = {
    "ece": m.ece_scorer,
    "classwise": m.classwise_ece_scorer,
    "nll": m.nll_scorer,
    "brier": m.brier_scorer,
    "aurc": m.aurc_scorer,
    "auroc": m.error_auroc_scorer,
}
REGRESSION = {
    "nll": m.nll_scorer,
    "crps": m.crps_scorer,
    "picp": m.picp_scorer(0.8),
    "interval": m.interval_score_scorer,
    "aurc": m.aurc_scorer,
}


@pytest.fixture(scope="module")
def classifier(blobs):
    X, y = blobs
    network = TorchClassifier(posterior=MCDropout(5), max_epochs=10, lr=0.01, random_state=0)
    return make_pipeline(StandardScaler(), network).fit(X, np.array(["a", "b", "c"])[y])


@pytest.fixture(scope="module")
def regressor(diabetes):
    X, y = diabetes
    network = TorchRegressor(posterior=MCDropout(5), max_epochs=10, lr=0.01, random_state=0)
    return make_pipeline(StandardScaler(), network).fit(X, y)


@pytest.fixture
def evaluations(monkeypatch):
    """Counts the evaluations of posteriors."""
    counted = []
    original = Engine.map

    def counting(self, X, *args, **options):
        counted.append(len(X))
        return original(self, X, *args, **options)

    monkeypatch.setattr(Engine, "map", counting)
    return counted


def test_classification_scores_are_the_metrics(classifier, blobs):
    X, y = blobs
    y = np.array(["a", "b", "c"])[y]
    weight = np.random.default_rng(0).random(len(y))
    proba, predicted = classifier.predict_proba(X), classifier.predict(X)
    uncertainty = skuq.predict_uncertainty(classifier, X)
    for w in (None, weight):
        expected = {
            "ece": -m.expected_calibration_error(y, proba, sample_weight=w),
            "classwise": -m.expected_calibration_error(y, proba, kind="classwise", sample_weight=w),
            "nll": -log_loss(y, proba, sample_weight=w),
            "brier": -m.brier_score(y, proba, sample_weight=w),
            "aurc": -m.area_under_risk_coverage(y, predicted, uncertainty, sample_weight=w),
            "auroc": m.uncertainty_error_auroc(y, predicted, uncertainty, sample_weight=w),
        }
        for name, scorer in CLASSIFICATION.items():
            value = scorer(classifier, X, y, sample_weight=w)
            assert value == pytest.approx(expected[name], abs=1e-9), name


def test_regression_scores_are_the_metrics(regressor, diabetes):
    X, y = diabetes
    network = regressor[-1]
    normal = {}
    network._reduce(
        regressor[:-1].transform(X), lambda d: normal.update(d=d) or d.mean.movedim(0, 1)
    )
    draws = skuq.predict_draws(regressor, X)[..., 0]
    stds = network._reduce(regressor[:-1].transform(X), lambda d: d.stddev.movedim(0, 1))
    stds = stds[..., 0].T
    interval = skuq.predict_interval(regressor, X, 0.8)
    expected = {
        "nll": -m.gaussian_nll(y, draws, stds),
        "crps": -m.crps(y, draws, stds),
        "picp": -abs(m.prediction_interval_coverage(y, interval) - 0.8),
        "interval": -m.interval_score(y, skuq.predict_interval(regressor, X, 0.9)),
        "aurc": -m.area_under_risk_coverage(
            y, regressor.predict(X), skuq.predict_uncertainty(regressor, X), loss="squared"
        ),
    }
    for name, scorer in REGRESSION.items():
        assert scorer(regressor, X, y) == pytest.approx(expected[name], rel=1e-9), name


def test_several_scorers_evaluate_the_posterior_once(
    classifier, regressor, blobs, diabetes, evaluations
):
    X, y = blobs
    y = np.array(["a", "b", "c"])[y]
    together = m.uncertainty_scorers(CLASSIFICATION)(classifier, X, y)
    assert len(evaluations) == 1
    for name, scorer in CLASSIFICATION.items():
        assert together[name] == scorer(classifier, X, y)
    evaluations.clear()
    together = m.uncertainty_scorers(**REGRESSION)(regressor, *diabetes)
    assert len(evaluations) == 1
    for name, scorer in REGRESSION.items():
        assert together[name] == scorer(regressor, *diabetes)


def test_once_per_fold_and_data_set(blobs, evaluations):
    network = TorchClassifier(max_epochs=2, random_state=0)
    scoring = m.uncertainty_scorers(CLASSIFICATION)
    found = cross_validate(network, *blobs, scoring=scoring, cv=3, return_train_score=True)
    assert len(evaluations) == 6
    assert set(found) >= {f"{a}_{b}" for a in ("test", "train") for b in CLASSIFICATION}
    evaluations.clear()
    search = GridSearchCV(network, {"lr": [1e-3, 1e-2]}, scoring=scoring, refit="nll", cv=2)
    search.fit(*blobs)
    assert len(evaluations) == 4
    assert search.cv_results_["mean_test_aurc"].shape == (2,)


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_classification_everywhere(name, blobs):
    X, y = blobs
    scorer = CLASSIFICATION[name]
    pipeline = make_pipeline(StandardScaler(), TorchClassifier(max_epochs=3, random_state=0))
    assert np.isfinite(cross_val_score(pipeline, X, y, scoring=scorer, cv=2)).all()
    search = GridSearchCV(pipeline, {"torchclassifier__lr": [1e-3, 1e-2]}, scoring=scorer, cv=2)
    search.fit(X, y)
    assert np.isfinite(scorer(search, X, y)) and np.isfinite(search.score(X, y))
    importance = permutation_importance(search, X, y, scoring=scorer, n_repeats=2, random_state=0)
    assert importance.importances_mean.shape == (X.shape[1],)
    _, *scores = learning_curve(
        pipeline, X, y, scoring=scorer, cv=2, train_sizes=[0.5, 1.0], shuffle=True, random_state=0
    )
    assert scores[1].shape == (2, 2)


@pytest.mark.parametrize("name", REGRESSION)
def test_regression_everywhere(name, diabetes):
    X, y = diabetes
    scorer = REGRESSION[name]
    network = TorchRegressor(posterior=MCDropout(4), max_epochs=3, random_state=0)
    model = TransformedTargetRegressor(
        make_pipeline(StandardScaler(), network), transformer=StandardScaler()
    )
    found = cross_validate(model, X, y, scoring={"ours": scorer, "r2": "r2"}, cv=2)
    assert np.isfinite(found["test_ours"]).all()
    search = GridSearchCV(model, {"regressor__torchregressor__lr": [1e-3]}, scoring=scorer, cv=2)
    assert np.isfinite(search.fit(X, y).score(X, y))


def test_scores_are_in_the_units_of_the_outermost_target(diabetes):
    """Standardising inside changes nothing: the network does it, too."""
    X, y = diabetes
    network = TorchRegressor(posterior=MCDropout(4), max_epochs=5, random_state=0)
    plain = network.fit(X, y)
    for transformer in (StandardScaler(), None):
        wrapped = TransformedTargetRegressor(clone(network), transformer=transformer).fit(X, y)
        for name, scorer in REGRESSION.items():
            assert scorer(wrapped, X, y) == pytest.approx(scorer(plain, X, y), rel=1e-2), name


ALL = {name: getattr(m, name) for name in m.__all__ if name.endswith("_scorer")}
READY = {name: s for name, s in ALL.items() if isinstance(s, m.UncertaintyScorer)}


@pytest.mark.parametrize("name", READY)
def test_help_says_the_sign(name):
    """`help` of each ready scorer is its own text, and tells whether the metric's sign is kept."""
    scorer = READY[name]
    text = pydoc.plain(pydoc.render_doc(scorer))
    assert " ".join(scorer.__doc__.split()) in " ".join(text.replace("|", " ").split())
    turned = scorer.__doc__.startswith("Minus ")
    assert turned == (not scorer.greater_is_better)
    assert "at best" in scorer.__doc__
    assert pickle.loads(pickle.dumps(scorer)).__doc__ == scorer.__doc__


def test_each_scorer_has_its_own_help():
    assert len(READY) >= 8
    texts = [scorer.__doc__ for scorer in (*READY.values(), m.picp_scorer())]
    assert len({*texts, m.UncertaintyScorer.__doc__}) == len(READY) + 2


def test_scikit_learns_own_estimators(blobs, diabetes):
    X, y = blobs[0].astype(float), blobs[1]  # of float32, log_loss clips at 1e-7
    for estimator in (LogisticRegression(max_iter=500), RandomForestClassifier(10, random_state=0)):
        estimator.fit(X, y)
        proba = estimator.predict_proba(X)
        assert m.ece_scorer(estimator, X, y) == -m.expected_calibration_error(y, proba)
        assert m.nll_scorer(estimator, X, y) == pytest.approx(-log_loss(y, proba))
    X, y = diabetes
    for estimator in (
        BayesianRidge(),
        GaussianProcessRegressor(alpha=1.0, normalize_y=True, optimizer=None),
    ):
        mean, std = estimator.fit(X, y).predict(X, return_std=True)
        assert m.crps_scorer(estimator, X, y) == pytest.approx(-m.crps(y, mean, std))
        assert m.nll_scorer(estimator, X, y) == pytest.approx(-m.gaussian_nll(y, mean, std))
    with pytest.raises(TypeError, match="takes return_std=True"):
        m.crps_scorer(LinearRegression().fit(X, y), X, y)


def test_calibrators_are_scored_as_calibrated(classifier, blobs, diabetes):
    X, y = blobs
    scaler = TemperatureScaler(TorchClassifier(max_epochs=5, random_state=0), cv=2).fit(X, y)
    expected = m.expected_calibration_error(y, scaler.predict_proba(X))
    assert m.ece_scorer(scaler, X, y) == pytest.approx(-expected)
    X, y = diabetes
    scaler = VarianceScaler(BayesianRidge(), cv=2).fit(X, y)
    mean, std = scaler.predict(X, return_std=True)
    assert m.crps_scorer(scaler, X, y) == pytest.approx(-m.crps(y, mean, std))


def draws_spread(y_true, draws, *, sample_weight=None):
    assert draws.shape[1] == len(y_true)
    return float(np.average(draws.std(axis=0).mean(-1), weights=sample_weight))


def test_own_metrics_and_options(classifier, regressor, blobs, diabetes):
    X, y = blobs
    y = np.array(["a", "b", "c"])[y]
    spread = m.make_uncertainty_scorer(draws_spread, needs="draws", greater_is_better=False)
    draws = skuq.predict_draws(classifier, X)
    assert spread(classifier, X, y) == pytest.approx(-draws.std(0).mean())
    epistemic = m.make_uncertainty_scorer(
        m.uncertainty_error_auroc, needs="uncertainty", kind="epistemic"
    )
    expected = m.uncertainty_error_auroc(
        y, classifier.predict(X), skuq.predict_uncertainty(classifier, X, "epistemic")
    )
    assert epistemic(classifier, X, y) == pytest.approx(expected)
    margin = m.make_uncertainty_scorer(
        m.accuracy_at_coverage, needs="uncertainty", measure="margin", coverage=0.5
    )
    assert 0.3 < margin(classifier, X, y) <= 1
    width = m.make_uncertainty_scorer(
        lambda y, interval: m.mean_interval_width(interval), needs="interval", confidence_level=0.5
    )
    known = m.make_uncertainty_scorer(
        lambda y, prediction, uncertainty, kind: float(kind == "epistemic"),
        needs="uncertainty",
        kind="epistemic",
    )
    assert known(classifier, X, y) == 1
    with pytest.raises(TypeError, match="n_bin"):
        m.make_uncertainty_scorer(m.expected_calibration_error, n_bin=5)(classifier, X, y)
    X, y = diabetes
    interval = skuq.predict_interval(regressor, X, 0.5)
    assert width(regressor, X, y) == pytest.approx(m.mean_interval_width(interval))


def test_metadata_routing_carries_sample_weight(blobs):
    X, y = blobs
    weight = np.where(y == 0, 5.0, 0.1)
    seen = []

    class Recording(m.UncertaintyScorer):
        def score(self, estimator, X, y, sample_weight=None):
            seen.append(sample_weight)
            return super().score(estimator, X, y, sample_weight)

    with sklearn.config_context(enable_metadata_routing=True):
        network = TorchClassifier(max_epochs=2, random_state=0).set_fit_request(sample_weight=False)
        scorer = Recording(m.brier_score, "proba", False).set_score_request(sample_weight=True)
        found = cross_validate(
            network, X, y, scoring=scorer, cv=2, params={"sample_weight": weight}
        )
        several = m.uncertainty_scorers(b=m.brier_scorer).set_score_request(sample_weight=True)
        other = cross_validate(
            network, X, y, scoring=several, cv=2, params={"sample_weight": weight}
        )
    assert len(seen) == 2 and all(w is not None for w in seen)
    np.testing.assert_allclose(found["test_score"], other["test_b"])
    unweighted = cross_validate(network, X, y, scoring=m.brier_scorer, cv=2)
    assert not np.allclose(found["test_score"], unweighted["test_score"])


def test_scorers_travel(classifier, blobs):
    X, y = blobs
    y = np.array(["a", "b", "c"])[y]
    for scorer in (m.aurc_scorer, m.uncertainty_scorers(a=m.ece_scorer, b="accuracy")):
        copied = pickle.loads(pickle.dumps(scorer))
        assert copied(classifier, X, y) == scorer(classifier, X, y)
    assert cross_val_score(
        LogisticRegression(max_iter=500), X, y, scoring=m.nll_scorer, cv=2, n_jobs=2
    ).shape == (2,)


def test_ensembles_can_be_chosen_by_aurc(blobs):
    network = TorchClassifier(max_epochs=3, random_state=0)
    grid = {"posterior": [MCDropout(3), DeepEnsemble(2)]}
    search = GridSearchCV(network, grid, scoring=m.aurc_scorer, cv=2).fit(*blobs)
    assert (search.cv_results_["mean_test_score"] <= 0).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda c, r: m.crps_scorer(c, *D), TypeError, "for regression, got a model for classific"),
        (lambda c, r: m.ece_scorer(r, *D), TypeError, "for classification, got a model for regr"),
        (lambda c, r: m.ece_scorer(c, D[0], ["x"] * len(D[0])), ValueError, "labels .* not fitted"),
        (lambda c, r: m.nll_scorer(r, D[0], D[1] * np.nan), ValueError, "NaN"),
        (lambda c, r: m.make_uncertainty_scorer(len, needs="x"), ValueError, "needs must be one"),
        (lambda c, r: m.make_uncertainty_scorer(3), TypeError, "metric must be a function"),
        (lambda c, r: m.picp_scorer(1.0), ValueError, "confidence_level"),
        (lambda c, r: m.uncertainty_scorers(), ValueError, "at least one"),
    ],
)
def test_bad_input(call, error, message, classifier, regressor):
    with pytest.raises(error, match=message):
        call(classifier, regressor)


D = np.random.default_rng(0).normal(size=(20, 10)), np.arange(20.0)


def regression(n_targets):
    random = np.random.default_rng(0)
    X = random.normal(size=(60, 2)).astype(np.float32)
    y = X @ random.normal(size=(2, n_targets))
    return X, y, TorchRegressor(max_epochs=3, random_state=0).fit(X, y.squeeze())


@pytest.mark.parametrize("scorer", [m.nll_scorer, m.crps_scorer])
def test_targets_are_as_many_as_predicted(scorer):
    X, y, one = regression(1)
    _, both, two = regression(2)
    assert np.isfinite(scorer(two, X, both))
    for model, targets in [(two, y[:, 0]), (one, np.hstack([y, y]))]:
        with pytest.raises(ValueError, match="targets, but the regressor predicts"):
            scorer(model, X, targets)
    for fewer in (y[:20, 0], y[:1, 0]):
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            scorer(one, X, fewer)
    assert scorer(one, X[::-1], y[::-1, 0]) == pytest.approx(scorer(one, X, y[:, 0]))


def test_labels_in_a_column_are_labels(classifier, blobs):
    X, y = blobs
    y = np.array(["a", "b", "c"])[y]
    logistic = LogisticRegression(max_iter=5000).fit(X, y)
    for model in (classifier, logistic):
        assert m.nll_scorer(model, X, y[:, None]) == m.nll_scorer(model, X, y)
        with pytest.raises(ValueError, match=r"inconsistent|expected equal numbers"):
            m.nll_scorer(model, X, y[:20])
