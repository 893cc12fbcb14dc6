"""A regressor of each pixel learns and answers as a regressor of rows does."""

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

import skuq
from skuq import TorchDenseRegressor, TorchRegressor
from skuq.augmentation import Flip
from skuq.likelihoods import Gaussian, StudentT
from skuq.posteriors import SGMCMC, DeepEnsemble, MCDropout, PointEstimate
from tests.augmentation.helpers import frozen
from tests.networks.dense import CHEAP, Pixelwise, images

CHAIN = SGMCMC(n_cycles=2, n_epochs=2, n_draws_per_cycle=1)  # lr=None: of the largest curvature


class PixelwiseRows(Pixelwise):
    """The same network for images of a single pixel, as rows."""

    def forward(self, x):
        return super().forward(x)[..., 0, 0]


def regressor(posterior=None, **options):
    options = {"precision": "float64", **CHEAP, **options}
    return TorchDenseRegressor(Pixelwise, posterior=posterior or MCDropout(4), **options)


def depths(n=6, **options):
    X, _ = images(n, **options)
    noise = np.random.default_rng(9).normal(size=X[:, 0].shape)
    return X, 100 + 10 * X[:, 0] + noise


@pytest.mark.parametrize("likelihood", [Gaussian(), Gaussian(heteroscedastic=False), StudentT()])
@pytest.mark.parametrize("posterior", [MCDropout(4), DeepEnsemble(2)])
def test_images_of_one_pixel_are_rows(likelihood, posterior):
    X, y = depths(40, height=1, width=1)
    weight = np.random.default_rng(5).uniform(0.5, 2, size=40)
    options = {"likelihood": likelihood, "max_epochs": 8, "batch_size": 16, "early_stopping": True}
    one = regressor(posterior, **options).fit(X, y, sample_weight=weight)
    rows = TorchRegressor(
        PixelwiseRows,
        posterior=posterior,
        module__n_channels=2,
        precision="float64",
        lr=0.02,
        random_state=0,
        **options,
    ).fit(X, y[:, 0, 0], sample_weight=weight)
    X, _ = depths(20, height=1, width=1, seed=1)
    for got, expected in zip(
        (*one.predict(X, return_std=True), *one.predict_uncertainty(X, "all")),
        (*rows.predict(X, return_std=True), *rows.predict_uncertainty(X, "all")),
    ):
        np.testing.assert_allclose(got[:, 0, 0], expected, rtol=1e-6)
    interval = one.predict_interval(X)
    np.testing.assert_allclose(interval[:, 0, 0], rows.predict_interval(X), rtol=1e-6)


@pytest.mark.parametrize("several", [False, True])
def test_answers_are_maps_in_the_units_of_y(several):
    X, y = depths()
    y = np.stack([y, -3 * y], axis=1) if several else y
    one = regressor().fit(X, y)
    mean, std = one.predict(X, return_std=True)
    draws = one.predict_draws(X)
    assert mean.shape == std.shape == y.shape
    assert draws.shape == (4, 6, 2 if several else 1, 6, 4)
    np.testing.assert_allclose(draws.mean(0).reshape(y.shape), mean, rtol=1e-12)
    parts = one.predict_uncertainty(X, "all")
    np.testing.assert_allclose(parts.total, std**2, rtol=1e-9)
    np.testing.assert_allclose(parts.epistemic, draws.var(0).reshape(y.shape), rtol=1e-6)
    quantiles = one.predict_quantiles(X, [0.05, 0.5, 0.95])
    assert quantiles.shape == (*y.shape, 3) and (np.diff(quantiles) > 0).all()
    np.testing.assert_allclose(one.predict_interval(X), quantiles[..., [0, 2]], rtol=1e-12)
    outputs = one.draws(torch.as_tensor(X)).detach().numpy()
    scale = one.likelihood_.scale_[:, None, None]
    expected = one.likelihood_.location_[:, None, None] + scale * outputs[:, :, : len(scale)]
    np.testing.assert_allclose(draws, expected, rtol=1e-9)


@pytest.mark.parametrize("posterior", [DeepEnsemble(2, adversarial=0.1), CHAIN])
def test_losses_of_posteriors_are_means_over_pixels(posterior):
    X, y = depths()
    mean, std = regressor(posterior).fit(X, y).predict(X, return_std=True)
    again, _ = regressor(posterior).fit(X, y[:, None]).predict(X, return_std=True)
    assert mean.shape == std.shape == y.shape and (std > 0).all()
    np.testing.assert_allclose(again[:, 0], mean, rtol=1e-9)


def test_pixels_with_nan_do_not_count():
    X, y = depths()
    out = np.random.default_rng(1).uniform(size=y.shape) < 0.3
    out[2] = True
    holes = np.where(out, np.nan, y)
    one, weight = regressor().fit(X, holes), (~out).astype(float)
    other = regressor().fit(X, np.where(out, y.mean(), y), pixel_weight=weight)
    np.testing.assert_allclose(one.predict(X), other.predict(X), rtol=1e-6)
    truth, guess = y[~out], one.predict(X)[~out]
    r2 = 1 - ((truth - guess) ** 2).sum() / ((truth - truth.mean()) ** 2).sum()
    assert one.score(X, holes) == pytest.approx(r2)
    dataset = TensorDataset(torch.as_tensor(X), torch.as_tensor(holes))
    streamed = regressor().fit(dataset)
    np.testing.assert_allclose(streamed.predict(X), one.predict(X), rtol=1e-9)
    assert streamed.score(dataset) == pytest.approx(r2)


def test_one_noise_level_for_all_pixels():
    X, y = depths(20)
    one = regressor(PointEstimate(), likelihood=Gaussian(heteroscedastic=False), max_epochs=30)
    one.fit(X, y)
    assert np.unique(one.predict_uncertainty(X).round(9)).size == 1
    residual = (y - one.predict(X)).std()
    assert float(one.predict(X, return_std=True)[1].mean()) == pytest.approx(residual, rel=0.3)


def test_views_are_moved_back_and_files_are_the_same(tmp_path):
    X, y = depths()
    one = regressor().fit(X, y)
    augmented = frozen(one, Flip(), X, y)
    expected = (one.predict(X) + one.predict(X[..., ::-1])[..., ::-1]) / 2
    np.testing.assert_allclose(augmented.predict(X), expected, rtol=1e-12)
    assert augmented.predict_uncertainty(X, "nested").total.shape == y.shape
    assert augmented.score(X, y) <= 1
    skuq.save(one, tmp_path / "one.skuq")
    other = skuq.load(tmp_path / "one.skuq", module=Pixelwise)
    np.testing.assert_array_equal(other.predict_interval(X), one.predict_interval(X))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: y[:, 1:], r"y has shape \(6, 5, 4\), expected \(6, 6, 4\)"),
        (lambda y: y.reshape(6, -1), r"expected \(6, 6, 4\)"),
        (lambda y: np.full(y.shape, np.nan), "every pixel of y is NaN"),
        (lambda y: np.where(y > 100, np.inf, y), "infinity"),
        (lambda y: np.full(y.shape, "far"), "TorchSegmenter"),
    ],
)
def test_refusals_name_the_fix(change, message):
    X, y = depths()
    with pytest.raises(ValueError, match=message):
        regressor().fit(X, change(y))
    with pytest.raises(ValueError, match="rule for labels"):
        regressor().fit(X, y, pixel_weight="balanced")
