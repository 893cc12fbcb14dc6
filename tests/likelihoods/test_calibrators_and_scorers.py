"""Every likelihood with calibrators, scorers, target transformers, searches and the report."""

import numpy as np
import pytest
import torch
from sklearn.compose import TransformedTargetRegressor
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import EpochScoring

import skuq
from skuq import TorchClassifier, TorchRegressor
from skuq.calibration import (
    QuantileRecalibrator,
    TemperatureScaler,
    VarianceScaler,
    VectorScaler,
)
from skuq.likelihoods import (
    Bernoulli,
    Categorical,
    Likelihood,
    NegativeBinomial,
    Poisson,
    StudentT,
)
from skuq.metrics import (
    aurc_scorer,
    brier_scorer,
    crps_scorer,
    ece_scorer,
    interval_score_scorer,
    make_uncertainty_scorer,
    nll_scorer,
    picp_scorer,
    uncertainty_scorers,
)
from skuq.posteriors import DeepEnsemble, PointEstimate
from tests.likelihoods.test_contract import task_data
from tests.test_common import all_likelihoods, estimator_with

CLASSES = [likelihood for likelihood in all_likelihoods() if likelihood.task == "classification"]
COUNTS = (Poisson, NegativeBinomial)
HEAVY_TAILS = (StudentT, NegativeBinomial)  # exp of y has no mean
REAL = [likelihood for likelihood in all_likelihoods() if likelihood.task == "regression"]
OPTIONS = {"posterior": DeepEnsemble(2), "max_epochs": 15, "lr": 0.01, "random_state": 0}


@pytest.mark.parametrize("likelihood", CLASSES, ids=str)
def test_of_classes(likelihood):
    X, y = task_data(likelihood, n_rows=200)
    model = make_pipeline(StandardScaler(), estimator_with(likelihood, **OPTIONS)).fit(X, y)
    proba = model.predict_proba(X)
    assert nll_scorer(model, X, y) == pytest.approx(-log_loss(y, proba))
    scores = uncertainty_scorers(b=brier_scorer, e=ece_scorer, a=aurc_scorer)(model, X, y)
    assert np.isfinite(list(scores.values())).all()
    for scaler in (TemperatureScaler(model, cv=3), VectorScaler(model, cv=3)):
        scaler.fit(X, y)
        assert scaler.loss_after_ <= scaler.loss_before_ + 1e-12
        assert scaler.predict_uncertainty(X).shape == (200,)
    assert skuq.report(model, X, y).metrics


@pytest.mark.parametrize("likelihood", REAL, ids=str)
def test_of_real_targets(likelihood):
    X, y = task_data(likelihood, n_rows=200)
    model = make_pipeline(StandardScaler(), estimator_with(likelihood, **OPTIONS)).fit(X, y)
    scorers = uncertainty_scorers(
        n=nll_scorer, c=crps_scorer, p=picp_scorer(), i=interval_score_scorer, a=aurc_scorer
    )
    scores = scorers(model, X, y)
    assert np.isfinite(list(scores.values())).all()
    low, high = skuq.predict_interval(model, X, 0.8).T
    assert ((y >= low) & (y <= high)).mean() == pytest.approx(0.8, abs=0.2)
    if not isinstance(likelihood, COUNTS):  # VarianceScaler refuses counts
        scaled = VarianceScaler(model, cv=3).fit(X, y)
        before, after = (skuq.predict_uncertainty(m, X) for m in (scaled.estimator_, scaled))
        np.testing.assert_allclose(after, scaled.scale_**2 * before, rtol=1e-8)
        np.testing.assert_allclose(scaled.predict(X), scaled.estimator_.predict(X), rtol=1e-8)
        assert np.isfinite(list(scorers(scaled, X, y).values())).all()
    recalibrated = QuantileRecalibrator(model, cv=3).fit(X, y)
    mean, std = recalibrated.predict(X[:20], return_std=True)
    assert np.isfinite(mean).all() and (std > 0).all()
    assert np.isfinite(nll_scorer(recalibrated, X[:20], y[:20]))
    assert skuq.report(model, X, y).metrics


@pytest.mark.parametrize("likelihood", REAL, ids=str)
@pytest.mark.parametrize("kind", ["linear", "nonlinear"])
def test_transformed_targets(likelihood, kind):
    """Quantiles move with the target transformer, whatever the distribution."""
    X, y = task_data(likelihood)
    if isinstance(likelihood, COUNTS) and kind == "linear":
        pytest.skip("scaled counts are no counts")
    y = np.abs(y) + 1
    transform = {"transformer": StandardScaler()}
    if kind == "nonlinear":
        transform = {"func": np.log, "inverse_func": np.exp, "check_inverse": False}
    small = {"module__activation": "relu", "module__dropout": 0.1}  # rates: exp of them is finite
    network = estimator_with(likelihood, **small, **OPTIONS)
    model = TransformedTargetRegressor(network, **transform).fit(X, y)
    inner = model.regressor_.predict_quantiles(X, [0.2, 0.9])
    expected = model.transformer_.inverse_transform(inner.reshape(-1, 1)).reshape(inner.shape)
    np.testing.assert_allclose(skuq.predict_interval(model, X, 0.5).shape, (len(X), 2))
    found = skuq.pipeline.predict_quantiles(model, X, [0.2, 0.9])
    np.testing.assert_allclose(found, expected, rtol=1e-7)
    if isinstance(likelihood, HEAVY_TAILS) and kind == "nonlinear":
        with pytest.raises(ValueError, match="does not exist"):  # the mean of exp of y
            skuq.predict_uncertainty(model, X)
        return
    uncertainty = skuq.predict_uncertainty(model, X, kind="all")
    assert (uncertainty.total > 0).all()
    np.testing.assert_allclose(uncertainty.total, uncertainty.aleatoric + uncertainty.epistemic)
    assert np.isfinite(nll_scorer(model, X, y))


def test_a_search_over_likelihoods():
    X, y = task_data(Categorical(), n_rows=150)
    search = GridSearchCV(
        TorchClassifier(posterior=PointEstimate(), max_epochs=10, lr=0.01, random_state=0),
        {"likelihood": CLASSES}, scoring=nll_scorer, cv=3,
    ).fit(X, y)  # fmt: skip
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    nested = estimator_with(Bernoulli(), max_epochs=1).set_params(likelihood__label_smoothing=0.1)
    assert nested.fit(X, y).likelihood_.label_smoothing == 0.1


@pytest.mark.parametrize("likelihood", CLASSES, ids=str)
def test_scoring_callbacks(likelihood):
    X, y = task_data(likelihood)
    model = estimator_with(
        likelihood, posterior=PointEstimate(), max_epochs=20, lr=0.01, early_stopping=True,
        callbacks=[EpochScoring("accuracy", name="accuracy", lower_is_better=False)],
        n_iter_no_change=20, random_state=0,
    ).fit(X, y)  # fmt: skip
    assert model.history_[-1]["accuracy"] > 0.7


def test_scorers_of_several_labels():
    """Each label of a row is a sample."""
    random = np.random.default_rng(0)
    X = random.normal(size=(150, 4))
    y = (X[:, :3] + random.normal(size=(150, 3)) > 0).astype(int)
    weight = random.random(150)
    model = estimator_with(Bernoulli(), **OPTIONS).fit(X, y)
    proba = model.predict_proba(X)
    flat, p, w = y.ravel(), proba.ravel(), np.repeat(weight, 3)
    nll = -np.where(flat == 1, np.log(p), np.log1p(-p))
    assert nll_scorer(model, X, y) == pytest.approx(-nll.mean())
    weighted = nll_scorer(model, X, y, sample_weight=weight)
    assert weighted == pytest.approx(-np.average(nll, weights=w))
    assert brier_scorer(model, X, y) == pytest.approx(-((p - flat) ** 2).mean())
    draws = make_uncertainty_scorer(
        lambda t, d: float((d[..., 1].mean(0) - p).sum()), needs="draws"
    )
    assert draws(model, X, y) == pytest.approx(0, abs=1e-9)
    scores = uncertainty_scorers(e=ece_scorer, a=aurc_scorer)(model, X, y)
    assert 0 < -scores["e"] < 0.3
    calibrated = TemperatureScaler(model, cv=3).fit(X, y)
    assert np.isfinite(nll_scorer(calibrated, X, y))
    with pytest.raises(ValueError, match="y must hold 0 or 1 for each of 3 labels"):
        nll_scorer(model, X, y[:, :2])


class Exponential(Likelihood):
    """Waiting times y > 0, as in the documentation: a likelihood of a third party."""

    task = "regression"

    def fit(self, y, sample_weight=None, n_classes=None, seed=0):
        self.n_outputs_ = y.shape[1]
        return self

    def explain_outputs(self):
        return f"the logarithm of a mean for each of {self.n_outputs_} targets"

    def loss(self, output, target):
        return (output + target * (-output).exp()).sum(-1)

    def predictive(self, output):
        return torch.distributions.Exponential((-output).exp(), validate_args=False)


def test_a_new_likelihood_is_one_class():
    random = np.random.default_rng(0)
    X = random.normal(size=(400, 2))
    y = random.exponential(np.exp(1 + X[:, 0]))
    model = TorchRegressor(
        likelihood=Exponential(), posterior=DeepEnsemble(2), max_epochs=40, lr=0.01, random_state=0
    ).fit(X, y)
    assert np.median(np.abs(np.log(model.predict(X)) - 1 - X[:, 0])) < 0.3
    low, high = model.predict_interval(X, 0.8).T
    assert ((y >= low) & (y <= high)).mean() == pytest.approx(0.8, abs=0.07)
    assert np.isfinite(nll_scorer(model, X, y)) and np.isfinite(crps_scorer(model, X, y))
    assert VarianceScaler(model, cv=3).fit(X, y).scale_ == pytest.approx(1, abs=0.3)
