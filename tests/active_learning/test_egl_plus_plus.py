"""EGL++: affinities, the closed form of the last layer, gradients of all layers, maps."""

import numpy as np
import pytest
import torch
from torch import nn

import skuq
from skuq import TorchDenseRegressor, TorchRegressor
from skuq.active_learning import egl_plus_plus
from skuq.active_learning._affinities import affinities, squared_distances
from skuq.posteriors import PointEstimate
from tests.active_learning.conftest import quick


def perplexity_of(p):
    return np.exp(-np.sum(np.where(p > 0, p * np.log(np.maximum(p, 1e-300)), 0), axis=1))


def test_equidistant_rows_have_equal_affinities():
    np.testing.assert_allclose(affinities(np.full((2, 8), 3.0), 4.0), 1 / 8)
    np.testing.assert_allclose(affinities(np.zeros((1, 5)), 2.0), 1 / 5)


@pytest.mark.parametrize("perplexity", [1.5, 5.0, 20.0, 99.0])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_perplexity_is_reached(perplexity, scale):
    random = np.random.default_rng(0)
    squared = squared_distances(random.normal(size=(40, 4)), random.normal(size=(100, 4)))
    p = affinities(scale * squared, perplexity)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(perplexity_of(p), perplexity, rtol=2e-4)
    assert (p.argmax(axis=1) == squared.argmin(axis=1)).all()


def test_copies_of_the_nearest_row_bound_the_perplexity():
    squared = np.array([[0.0, 0.0, 0.0, 1.0, 4.0]])
    p = affinities(squared, 2.0)  # three are equally near: cannot be fewer than three
    np.testing.assert_allclose(p[0, :3], 1 / 3, atol=1e-6)


def gradient(network, function, x, target):
    """‖∇_θ ½ ‖f − y‖²‖² of one row."""
    residual = function(network(x[None])).flatten() - target
    grads = torch.autograd.grad(0.5 * (residual**2).sum(), list(network.parameters()))
    return sum(float((g**2).sum()) for g in grads)


def test_one_labelled_row_gives_the_gradient_of_its_loss(regressors, regression):
    fitted, (X, y) = regressors[1], regression
    found = egl_plus_plus(fitted, X[:6], X[7:8], scope="all")
    network = fitted.module_.eval()

    def mean(out):
        return fitted.likelihood_.predictive(out[None]).mean

    target = float(fitted.predict(X[7:8])[0])
    expected = [gradient(network, mean, torch.from_numpy(x), target) for x in X[:6]]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    known = egl_plus_plus(fitted, X[:6], X[7:8], y[7:8], scope="all")
    expected = [gradient(network, mean, torch.from_numpy(x), y[7]) for x in X[:6]]
    np.testing.assert_allclose(known, expected, rtol=1e-9)


def test_last_layer_of_a_classifier(one_network, blobs):
    X, y = blobs
    pool, known = X[:10], X[100:]
    found = egl_plus_plus(one_network, pool, known, perplexity=10, n_neighbors=7)
    f, g = (skuq.predict_features(one_network, rows) for rows in (pool, known))
    p, targets = one_network.predict_proba(pool), one_network.predict_proba(known)
    q = affinities(squared_distances(f, g), 10)
    expected = np.zeros(10)
    for i in range(10):
        for j in np.argsort(-q[i])[:7]:
            apart = ((p[i] - targets[j]) ** 2).sum()
            expected[i] += q[i, j] * apart * ((f[i] ** 2).sum() + 1)
    np.testing.assert_allclose(found, expected, rtol=1e-7)
    labels = egl_plus_plus(one_network, pool, known[:1], y[100:101])
    apart = ((p - np.eye(3)[y[100]]) ** 2).sum(axis=1)
    np.testing.assert_allclose(labels, apart * ((f**2).sum(axis=1) + 1), rtol=1e-7)


def test_last_layer_is_a_part_of_all_layers(one_network, blobs):
    X = blobs[0]
    last, everything = (
        egl_plus_plus(one_network, X[:9], X[9:99], scope=scope) for scope in ("last", "all")
    )
    assert (last < everything).all() and (last > 0).all()


def test_several_targets(regression):
    X, y = regression
    fitted = TorchRegressor(**quick(PointEstimate(), 2)).fit(X, np.column_stack([y, -y]))
    found = egl_plus_plus(fitted, X[:5], X[40:41], scope="all")
    network, target = fitted.module_.eval(), torch.from_numpy(fitted.predict(X[40:41])[0])

    def mean(out):
        return fitted.likelihood_.predictive(out[None]).mean

    expected = [gradient(network, mean, torch.from_numpy(x), target) for x in X[:5]]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


class SmallMaps(nn.Module):
    def __init__(self, n_outputs):
        super().__init__()
        self.down = nn.Conv2d(1, 3, 3, stride=2, padding=1)
        self.up = nn.Conv2d(3, n_outputs, 1)

    def forward(self, x):
        hidden = self.down(x).tanh()
        return nn.functional.interpolate(self.up(hidden), scale_factor=2.0)


def test_maps():
    X = np.random.default_rng(0).normal(size=(8, 1, 4, 6))
    fitted = TorchDenseRegressor(
        SmallMaps, posterior=PointEstimate(), max_epochs=2, random_state=0, precision="float64"
    ).fit(X, X[:, 0])
    with pytest.raises(ValueError, match="scope='all'"):
        egl_plus_plus(fitted, X[:3], X[3:])
    found = egl_plus_plus(fitted, X[:3], X[3:4], scope="all", layer="up")
    network, target = fitted.module_.eval(), torch.from_numpy(fitted.predict(X[3:4])[0]).flatten()

    def mean(out):
        return fitted.likelihood_.predictive(out.flatten(2).mT.flatten(0, 1)[None]).mean

    expected = [gradient(network, mean, torch.from_numpy(x), target) for x in X[:3]]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_perplexity_and_neighbours_are_clipped(one_network, blobs):
    X = blobs[0]
    with pytest.warns(UserWarning, match="4 is taken"):
        clipped = egl_plus_plus(one_network, X[:4], X[50:55], perplexity=5)
    exact = egl_plus_plus(one_network, X[:4], X[50:55], perplexity=4, n_neighbors=5)
    np.testing.assert_allclose(clipped, exact)


def test_refusals(one_network, regressors, blobs, regression):
    X, y = blobs
    with pytest.raises(ValueError, match="perplexity must be"):
        egl_plus_plus(one_network, X[:4], X[4:], perplexity=0.5)
    with pytest.raises(ValueError, match="n_neighbors must be"):
        egl_plus_plus(one_network, X[:4], X[4:], n_neighbors=0)
    with pytest.raises(ValueError, match="rows and y_labelled"):
        egl_plus_plus(one_network, X[:4], X[4:], y[:3])
    with pytest.raises(ValueError, match="must hold classes"):
        egl_plus_plus(one_network, X[:4], X[4:6], [7, 8])
    with pytest.raises(ValueError, match="finite numbers"):
        egl_plus_plus(regressors[1], regression[0][:4], regression[0][4:6], [np.nan, 1.0])
    with pytest.raises(ValueError):
        egl_plus_plus(one_network, X[:4], X[:0])
