"""What is compared: skuq as it comes or with settings, and what else a user would reach for.

A regressor ends as a forecast: quantiles at fixed levels, the same for all, so that all have the
same scores, its mean, and its density where it has one. A classifier ends as probabilities.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import norm
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.model_selection import cross_val_predict
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import LRScheduler
from torch.optim.lr_scheduler import CosineAnnealingLR

import skuq
from skuq.metrics import nll_scorer

__all__ = ["LEVELS", "MOST_ROWS", "PEERS", "Forecast", "forecasts", "of_skuq", "probabilities"]

LEVELS = np.arange(1, 20) / 20  # of the quantiles: 0.05 to 0.95
MOST_ROWS = {"gp": 1000}  # a Gaussian process takes time cubic in them


class Forecast(NamedTuple):
    """What a regressor says of rows.

    Attributes
    ----------
    quantiles : ndarray of shape (n_rows, n_levels)
        At `LEVELS`.
    mean : ndarray of shape (n_rows,)
        The median, for a model of quantiles only.
    nll : callable or None
        Returns the mean negative log density of targets, in nats.
    """

    quantiles: np.ndarray
    mean: np.ndarray
    nll: Callable[[np.ndarray], float] | None = None


Forecaster = Callable[[np.ndarray], Forecast]
Fitted = Callable[[np.ndarray], np.ndarray]


def forecasts(name: str, settings: dict[str, Any], seed: int, X: Any, y: Any) -> Forecaster:
    """Fit a regressor. Returns a function of rows."""
    if name == "skuq":
        return of_skuq(_skuq(skuq.TorchRegressor(random_state=seed), settings, len(X)).fit(X, y))
    return _REGRESSORS[name](seed, X, y)


def of_skuq(fitted: Any) -> Forecaster:
    return lambda rows: Forecast(
        skuq.predict_quantiles(fitted, rows, LEVELS),
        fitted.predict(rows),
        lambda y: -float(nll_scorer(fitted, rows, y)),
    )


def probabilities(name: str, settings: dict[str, Any], seed: int, X: Any, y: Any) -> Fitted:
    """Fit a classifier. Returns a function of rows: probabilities, of shape (n_rows, n_classes)."""
    if name == "skuq":
        pipeline = _skuq(skuq.TorchClassifier(random_state=seed), settings, len(X)).fit(X, y)
        return pipeline.predict_proba
    return _CLASSIFIERS[name](seed).fit(X, y).predict_proba


def _skuq(estimator: Any, settings: dict[str, Any], n_rows: int) -> Any:
    """With parameters; besides those, "steps" and "cosine" can be tried that are none."""
    given = dict(settings)
    steps = given.pop("steps", None)
    cosine = given.pop("cosine", False)
    estimator.set_params(**given)
    if steps is not None:
        n_batches = max(1, round(n_rows / estimator.batch_size))
        estimator.set_params(max_epochs=int(np.clip(steps / n_batches, 20, 1000)))
    if cosine:
        schedule = LRScheduler(CosineAnnealingLR, T_max=estimator.max_epochs)
        estimator.set_params(callbacks=[("schedule", schedule)])
    return make_pipeline(StandardScaler(), estimator)


# ---------------------------------------------------------------------------------------------
# Regressors


def _normal(mean: Any, std: Any) -> Forecast:
    mean, std = np.asarray(mean), np.broadcast_to(std, np.shape(mean))
    quantiles = mean[:, None] + std[:, None] * norm.ppf(LEVELS)
    return Forecast(quantiles, mean, lambda y: -float(norm.logpdf(y, mean, std).mean()))


def _of_quantiles(quantiles: np.ndarray) -> Forecast:
    return Forecast(quantiles, quantiles[:, len(LEVELS) // 2])


class _Standardised(BaseEstimator):
    """An estimator on standardised rows and targets."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def fit(self, X: Any, y: Any) -> _Standardised:
        self._mean, self._scale = y.mean(), y.std() or 1.0
        self._fitted = make_pipeline(StandardScaler(), clone(self.inner))
        self._fitted.fit(X, (y - self._mean) / self._scale)
        return self

    def predict(self, X: Any) -> np.ndarray:
        return self._mean + self._scale * self._fitted.predict(X)


def _with_residuals(model: Any, residuals: np.ndarray) -> Forecaster:
    """Predictions, with the quantiles of residuals on rows that were left out."""
    around = np.quantile(residuals, LEVELS)
    return lambda rows: _of_quantiles(model.predict(rows)[:, None] + around)


def _mlp(seed: int, X: Any, y: Any) -> Forecaster:
    model = _Standardised(MLPRegressor(max_iter=1000, random_state=seed))
    residuals = y - cross_val_predict(model, X, y, cv=5)
    return _with_residuals(model.fit(X, y), residuals)


def _boosting(seed: int, X: Any, y: Any) -> Forecaster:
    models = [
        HistGradientBoostingRegressor(loss="quantile", quantile=level, random_state=seed).fit(X, y)
        for level in LEVELS
    ]
    return lambda rows: _of_quantiles(
        np.sort(np.stack([model.predict(rows) for model in models], 1), 1)
    )


def _forest(seed: int, X: Any, y: Any) -> Forecaster:
    model = RandomForestRegressor(n_estimators=200, oob_score=True, random_state=seed).fit(X, y)
    return _with_residuals(model, y - model.oob_prediction_)


def _gp(seed: int, X: Any, y: Any) -> Forecaster:
    kernel = ConstantKernel() * RBF(np.full(X.shape[1], 3.0)) + WhiteKernel(0.1)
    model = make_pipeline(
        StandardScaler(), GaussianProcessRegressor(kernel, normalize_y=True, random_state=seed)
    ).fit(X, y)
    return lambda rows: _normal(*model.predict(rows, return_std=True))


def _ngboost(seed: int, X: Any, y: Any) -> Forecaster:
    from ngboost import NGBRegressor

    model = NGBRegressor(verbose=False, random_state=seed).fit(X, y)

    def predict(rows: np.ndarray) -> Forecast:
        params = model.pred_dist(rows).params
        return _normal(params["loc"], params["scale"])

    return predict


def _catboost(seed: int, X: Any, y: Any) -> Forecaster:
    from catboost import CatBoostRegressor

    model = CatBoostRegressor(
        loss_function="RMSEWithUncertainty",
        random_seed=seed,
        verbose=False,
        thread_count=1,
        allow_writing_files=False,
    ).fit(X, y)

    def predict(rows: np.ndarray) -> Forecast:
        mean, variance = model.predict(rows).T
        return _normal(mean, np.sqrt(variance))

    return predict


_REGRESSORS: dict[str, Callable[[int, Any, Any], Forecaster]] = {
    "mlp": _mlp,
    "boosting": _boosting,
    "forest": _forest,
    "gp": _gp,
    "ngboost": _ngboost,
    "catboost": _catboost,
}


# ---------------------------------------------------------------------------------------------
# Classifiers


def _catboost_classifier(seed: int) -> Any:
    from catboost import CatBoostClassifier

    return CatBoostClassifier(
        random_seed=seed, verbose=False, thread_count=1, allow_writing_files=False
    )


def _ngboost_classifier(seed: int) -> Any:
    from ngboost import NGBClassifier
    from ngboost.distns import k_categorical

    class Fit:
        def fit(self, X: Any, y: Any) -> Any:
            kind = k_categorical(len(np.unique(y)))
            return NGBClassifier(Dist=kind, verbose=False, random_state=seed).fit(X, y)

    return Fit()


_CLASSIFIERS: dict[str, Callable[[int], Any]] = {
    "mlp": lambda seed: make_pipeline(
        StandardScaler(), MLPClassifier(max_iter=1000, random_state=seed)
    ),
    "boosting": lambda seed: HistGradientBoostingClassifier(random_state=seed),
    "forest": lambda seed: RandomForestClassifier(n_estimators=200, random_state=seed),
    "gp": lambda seed: make_pipeline(
        StandardScaler(), GaussianProcessClassifier(random_state=seed)
    ),
    "ngboost": _ngboost_classifier,
    "catboost": _catboost_classifier,
}

PEERS = tuple(_REGRESSORS)


def quiet() -> None:
    """Peers warn of networks that need more epochs, and of lengths at a bound; that is known."""
    warnings.filterwarnings("ignore")
