"""Nothing depends on the unit of y: y → c·y moves every number as it must, c from 1e-12 to 1e12."""

import mpmath
import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.compose import TransformedTargetRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    PowerTransformer,
    RobustScaler,
    StandardScaler,
)

import skuq
from skuq import TorchRegressor
from skuq._distributions._families import Poisson as PoissonDistribution
from skuq.calibration import QuantileRecalibrator, VarianceScaler
from skuq.likelihoods import (
    Gaussian,
    Laplace,
    MixtureOfGaussians,
    Poisson,
    Quantile,
    StudentT,
)
from skuq.metrics import (
    crps,
    crps_scorer,
    expected_normalized_calibration_error,
    gaussian_nll,
    interval_score_scorer,
    nll_scorer,
    sharpness,
)
from skuq.posteriors import MCDropout

SCALES = [1e-12, 1e-7, 1e-5, 1e3, 1e12]
LIKELIHOODS = [
    Gaussian(),
    Gaussian(heteroscedastic=False),
    Laplace(),
    Laplace(heteroscedastic=False),
    StudentT(),
    MixtureOfGaussians(2),
    Quantile(),
]
LOG, ROOT = FunctionTransformer(np.log, np.exp), FunctionTransformer(np.sqrt, np.square)
EQUIVARIANT = [
    None,
    StandardScaler(),
    MinMaxScaler(),
    MaxAbsScaler(),
    RobustScaler(),
    LOG,
    make_pipeline(LOG, StandardScaler()),
    ROOT,
]
Q = [0.01, 0.2, 0.5, 0.9, 0.999]


def rows():
    random = np.random.default_rng(0)
    X = random.normal(size=(40, 2))
    return X, np.exp(0.2 * X[:, 0] + 0.05 * random.normal(size=40)) * 3


def fitted(X, y, likelihood, transformer=None):
    inner = TorchRegressor(
        module__hidden_layer_sizes=(6,),
        posterior=MCDropout(2),
        likelihood=likelihood,
        max_epochs=12,
        lr=0.02,
        random_state=0,
        precision="float64",
    )
    if transformer is None:
        return inner.fit(X, y)
    return TransformedTargetRegressor(inner, transformer=transformer).fit(X, y)


def answers(model, X, y):
    """Log density, and what is in the unit of y."""
    in_units = {
        "quantiles": skuq.predict_quantiles(model, X, Q),
        "draws": skuq.predict_draws(model, X)[..., 0],
        "std": np.sqrt(skuq.predict_uncertainty(model, X)),
        "crps": crps_scorer(model, X, y),
        "interval score": interval_score_scorer(model, X, y),
    }
    return nll_scorer(model, X, y), in_units


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=str)
@pytest.mark.parametrize("transformer", EQUIVARIANT, ids=str)
def test_equivariance(likelihood, transformer):
    X, y = rows()
    model = fitted(X, y, likelihood, transformer)
    density, in_units = answers(model, X, y)
    for c in SCALES[:: 1 if transformer in (None, LOG) else 2]:
        scaled = fitted(X, c * y, likelihood, transformer)
        moved, others = answers(scaled, X, c * y)
        assert moved == pytest.approx(density - np.log(c), abs=2e-6)
        for name, values in in_units.items():
            np.testing.assert_allclose(others[name], c * np.array(values), rtol=2e-5, err_msg=name)
