"""Nothing depends on the unit of y: y → c·y moves every number as it must, c from 1e-12 to 1e12."""

import mpmath
import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.base import BaseEstimator, RegressorMixin, clone
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
from skuq._distributions._families import PoissonCounts
from skuq._predict import RegressorPredictions
from skuq._sklearn_estimators import reduced
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

SCALES = [1e-12, 1e12]
LIKELIHOODS = [
    Gaussian(),
    Laplace(),
    StudentT(),
    MixtureOfGaussians(2),
    Quantile(),
]
LOG, ROOT = FunctionTransformer(np.log, np.exp), FunctionTransformer(np.sqrt, np.square)
BOX_COX = PowerTransformer("box-cox")
LINEAR = [StandardScaler(), MinMaxScaler(), MaxAbsScaler(), RobustScaler()]
EQUIVARIANT = [(likelihood, t) for likelihood in LIKELIHOODS for t in (None, LOG, ROOT)]
EQUIVARIANT += [(StudentT(), scaler) for scaler in LINEAR]
EQUIVARIANT += [(Gaussian(heteroscedastic=False), None), (Laplace(heteroscedastic=False), None)]
EQUIVARIANT += [(Gaussian(), make_pipeline(LOG, StandardScaler()))]
Q = [0.01, 0.5, 0.9]


class Outputs(RegressorPredictions, RegressorMixin, BaseEstimator):
    """A regressor without training: two draws of outputs that are a fixed function of X."""

    _target_shape = ()

    def __init__(self, likelihood):
        self.likelihood = likelihood

    def fit(self, X, y):
        self.likelihood_ = clone(self.likelihood).fit(np.reshape(y, (len(y), 1)))
        return self

    def _reduce(self, X, reduction, *aligned):
        random = torch.Generator().manual_seed(0)
        shape = (2, X.shape[1], self.likelihood_.n_outputs_)
        weight = 0.3 * torch.randn(shape, dtype=torch.float64, generator=random)
        outputs = torch.tensor(X, dtype=torch.float64) @ weight - 0.5
        return reduced(reduction, self.likelihood_.predictive(outputs), aligned)


def rows():
    random = np.random.default_rng(0)
    X = random.normal(size=(6, 2))
    return X, np.exp(0.1 * X[:, 0] + 0.02 * random.normal(size=6)) * 3


def fitted(X, y, likelihood, transformer=None):
    inner = Outputs(likelihood)
    if transformer is not None:
        inner = TransformedTargetRegressor(inner, transformer=transformer, check_inverse=False)
    return inner.fit(X, y)


def answers(model, X, y, moments=True):
    """Log density, and what is in the unit of y."""
    in_units = {
        "quantiles": skuq.predict_quantiles(model, X, Q),
        "crps": crps_scorer(model, X, y),
        "interval score": interval_score_scorer(model, X, y),
    }
    if moments:
        in_units["std"] = np.sqrt(skuq.predict_uncertainty(model, X))
    return nll_scorer(model, X, y), in_units


def check_moves(model_of, likelihood, transformer, moments=True):
    """`model_of` fits a model on X and y."""
    X, y = rows()
    density, in_units = answers(model_of(X, y), X, y, moments)
    assert np.isfinite(density)
    for c in SCALES:
        moved, others = answers(model_of(X, c * y), X, c * y, moments)
        assert moved == pytest.approx(density - np.log(c), abs=1e-8)
        for name, values in in_units.items():
            np.testing.assert_allclose(others[name], c * np.array(values), rtol=1e-7, err_msg=name)


@pytest.mark.parametrize(("likelihood", "transformer"), EQUIVARIANT, ids=str)
def test_likelihoods(likelihood, transformer):
    # The exponentials of Student's t and Laplace noise may have no mean or variance.
    moments = isinstance(likelihood, Gaussian | MixtureOfGaussians) or "log" not in str(transformer)
    check_moves(
        lambda X, y: fitted(X, y, likelihood, transformer), likelihood, transformer, moments
    )


@pytest.mark.parametrize("likelihood", [Gaussian(), Quantile()], ids=str)
@pytest.mark.parametrize("transformer", [None, LOG], ids=str)
@pytest.mark.parametrize("kind", [VarianceScaler, QuantileRecalibrator])
@pytest.mark.filterwarnings("ignore:.*no mass at all")
def test_calibrators(kind, likelihood, transformer):
    def calibrated(X, y):
        if kind is VarianceScaler and transformer is not None:  # it belongs inside
            z = clone(transformer).fit_transform(y[:, None])[:, 0]
            frozen = FrozenEstimator(fitted(X, z, likelihood))
            inner = TransformedTargetRegressor(
                kind(frozen), transformer=transformer, check_inverse=False
            )
            with pytest.raises(ValueError, match="Put it inside"):
                kind(FrozenEstimator(fitted(X, y, likelihood, transformer))).fit(X, y)
            return inner.fit(X, y)
        return kind(FrozenEstimator(fitted(X, y, likelihood, transformer))).fit(X, y)

    moments = likelihood.__class__ is Gaussian or transformer is None
    if moments or kind is QuantileRecalibrator:
        check_moves(calibrated, likelihood, transformer, moments)


def outputs_of(model, X):
    """Means and standard deviations of a Gaussian's draws, (2, n_samples) each."""
    inner = getattr(model, "regressor_", model)
    parts = inner._reduce(X, lambda d: (d.mean[..., 0].T, d.stddev[..., 0].T))
    return (part.T for part in parts)


def yeo_johnson(y, power):
    positive = np.expm1(power * np.log1p(np.maximum(y, 0))) / power
    negative = -np.expm1((2 - power) * np.log1p(np.maximum(-y, 0))) / (2 - power)
    return np.where(y >= 0, positive, negative)


@pytest.mark.parametrize("c", [1e-12, 1e-5, 1.0, 1e12])
@pytest.mark.parametrize("name", ["log1p", "yeo-johnson"])
def test_densities_under_other_transforms(name, c):
    """log p(y) = log p(z) + log |dz/dy|, with the derivatives by hand."""
    X, y = rows()
    y = c * np.exp(X[:, 0])
    if name == "log1p":
        model = fitted(X, y, Gaussian(), FunctionTransformer(np.log1p, np.expm1))
        z, slope = np.log1p(y), -np.log1p(y)
    else:
        model = fitted(X, y, Gaussian(), PowerTransformer(standardize=False))
        power = model.transformer_.lambdas_[0]
        z, slope = yeo_johnson(y, power), (power - 1) * np.log1p(y)
    mean, std = outputs_of(model, X)
    density = np.log(stats.norm.pdf(z, mean, std).mean(0)) + slope
    assert nll_scorer(model, X, y) == pytest.approx(density.mean(), abs=1e-5)
    # Quantiles: where the mean of the distribution functions is q. Of tiny numbers scikit-learn's
    # inverse takes a difference with 1.
    rounding = 5e-3 if name == "yeo-johnson" and c < 1e-9 else 1e-6
    for q, found in zip(Q, skuq.predict_quantiles(model, X, Q).T):
        back = np.log1p(found) if name == "log1p" else yeo_johnson(found, power)
        np.testing.assert_allclose(stats.norm.cdf(back, mean, std).mean(0), q, rtol=rounding)


def test_outside_of_the_domain_the_density_is_zero():
    X, y = rows()
    for transformer in (LOG, ROOT, make_pipeline(LOG, StandardScaler()), BOX_COX):
        model = fitted(X, y, Gaussian(), transformer)
        for wrong in (-1.0, 0.0) if transformer is not ROOT else (-1.0,):
            changed = np.where(np.arange(len(y)) == 2, wrong, y)
            assert nll_scorer(model, X, changed) == -np.inf
            others = np.arange(len(y)) != 2
            assert np.isfinite(nll_scorer(model, X[others], y[others]))
            if transformer is not BOX_COX:  # whose largest values are infinite, and the score too
                assert np.isfinite(crps_scorer(model, X, changed))
    # Of z² at 0 the density is infinite: dz/dy = 1 / (2 √y).
    model = fitted(X, y, Gaussian(), ROOT)
    assert nll_scorer(model, X, np.where(np.arange(len(y)) == 2, 0.0, y)) == np.inf


@pytest.mark.parametrize("transformer", [None, StandardScaler()], ids=str)
def test_intervals_of_a_target_far_from_zero(transformer):
    """y = 2³⁰ + 1e-3 x: within the few last bits that y has."""
    X, _ = rows()
    y = 2.0**30 + 1e-3 * X[:, 0]
    model = fitted(X, y, Gaussian(), transformer)
    near = fitted(X, y - 2.0**30, Gaussian(), transformer)
    found = skuq.predict_quantiles(model, X, Q) - 2.0**30
    last_bit = np.spacing(2.0**30)
    assert last_bit < 1e-3 * y.std()
    np.testing.assert_allclose(found, skuq.predict_quantiles(near, X, Q), rtol=0, atol=4 * last_bit)


@pytest.mark.parametrize("rate", [1e-12, 1e-3, 5.0, 40.0, 1e6, 1e12])
def test_counts(rate):
    """mpmath at 50 digits."""
    ours = PoissonCounts(torch.tensor(rate, dtype=torch.float64))
    with mpmath.workdps(50):
        for k in {0.0, 1.0, float(np.rint(rate)), float(np.rint(rate + 3 * np.sqrt(rate)))}:
            log_p = k * mpmath.log(rate) - rate - mpmath.loggamma(k + 1)
            found = float(ours.log_prob(torch.tensor(k, dtype=torch.float64)))
            assert found == pytest.approx(float(log_p), rel=1e-12, abs=1e-9)
            below = stats.poisson(rate).cdf(k)
            found = float(ours.cdf(torch.tensor(k, dtype=torch.float64)))
            assert found == pytest.approx(below, rel=1e-7, abs=1e-300)
    assert float(ours.log_prob(torch.tensor(-1.0, dtype=torch.float64))) == -np.inf


@pytest.mark.parametrize("c", [1e-12, 1e12, 1e-200, 1e200])
def test_metrics(c):
    random = np.random.default_rng(0)
    y, mean, std = random.normal(size=(3, 50))
    std = np.exp(std)
    means, stds = np.stack([mean, mean + 1]), np.stack([std, 2 * std])
    near, scaled = (y, means, stds), (c * y, c * means, c * stds)
    assert gaussian_nll(*scaled) == pytest.approx(gaussian_nll(*near) + np.log(c))
    assert crps(*scaled) == pytest.approx(c * crps(*near), rel=1e-12)
    assert sharpness(c * std) == pytest.approx(c * sharpness(std), rel=1e-12)
    ence = expected_normalized_calibration_error
    assert ence(c * y, c * mean, c * std) == pytest.approx(ence(y, mean, std), rel=1e-12)
    weight = random.uniform(size=50)
    heavy = crps(y, means, stds, sample_weight=weight / weight.max() * 1.7e308)
    assert heavy == pytest.approx(crps(y, means, stds, sample_weight=weight), rel=1e-12)


@pytest.mark.parametrize("likelihood", [Gaussian(), Poisson()], ids=str)
def test_what_no_variance_can_hold_is_refused(likelihood):
    y = np.linspace(1, 2, 5)[:, None]
    with pytest.raises(
        ValueError, match=r"y is too large: its largest value is 2e\+300.*rescale y"
    ):
        likelihood.fit(1e300 * y)


def test_a_deviation_too_small_is_refused():
    with pytest.raises(ValueError, match="y is too small: its standard deviation"):
        Gaussian().fit(1e-200 * np.linspace(1, 2, 5)[:, None])
