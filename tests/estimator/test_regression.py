"""Regressors: units, several targets, intervals and quantiles."""

import numpy as np
import pytest
import torch

from skuq.likelihoods import Gaussian
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate
from tests.estimator.helpers import regressor


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
