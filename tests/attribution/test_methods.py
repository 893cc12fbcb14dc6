"""captum's methods on an uncertainty: closed forms."""

import numpy as np
import pytest
import torch
from torch import nn

from skuq import from_trained
from skuq.attribution import attribute_uncertainty
from tests.attribution.helpers import SQUARES, additive, ensemble, nothing, weighted

WEIGHTS = np.linspace(-1, 2, 32).reshape(4, 8)


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).random((3, 4, 8))


def test_linear_uncertainty(X):
    """Integrated gradients are the gradient times the difference to the baseline."""
    U = weighted(WEIGHTS)
    gradient, smooth, integrated = (
        attribute_uncertainty(U, X, method=method, perturbation=nothing).values
        for method in ("gradient", "smoothgrad", "integrated_gradients")
    )
    np.testing.assert_allclose(gradient, np.broadcast_to(abs(WEIGHTS), X.shape), rtol=1e-6)
    np.testing.assert_allclose(smooth, gradient, rtol=1e-6)
    np.testing.assert_allclose(integrated, WEIGHTS * X, rtol=1e-5, atol=1e-9)


def test_additive_uncertainty_has_its_parts_as_shapley_values():
    parts = np.array([0.5, 0.1, 1.0, -0.3, 0.4, 0.2, 0.6, 1.5])
    U, X = additive(parts)
    options = {"segments": SQUARES, "perturbation": nothing}
    shap = attribute_uncertainty(U, X, method="kernel_shap", **options)
    np.testing.assert_allclose(shap.values[0], parts[SQUARES] / 4, atol=1e-5)
    alone = attribute_uncertainty(U, X, method="occlusion", **options)
    np.testing.assert_allclose(alone.values[0], parts[SQUARES] / 4, atol=1e-9)
    lime = attribute_uncertainty(U, X, method="lime", n_samples=2000, **options).values[0]
    assert np.corrcoef(lime.ravel(), parts[SQUARES].ravel())[0, 1] > 0.999


@pytest.mark.parametrize("method", ["integrated_gradients", "kernel_shap"])
def test_efficiency(method, digits):
    """Values sum to U(x) − U(baseline), here of an ensemble."""
    X, y = digits
    network = ensemble(X, y)
    found = attribute_uncertainty(
        network, X[:4], method=method, image_shape=(8, 8), perturbation=nothing
    )
    baseline = network.predict_uncertainty(np.zeros((1, 64), np.float32))[0]
    difference = network.predict_uncertainty(X[:4]) - baseline
    rtol = 0.05 if method == "integrated_gradients" else 1e-3
    np.testing.assert_allclose(found.values.sum((1, 2)), difference, rtol=rtol, atol=1e-4)


def test_sliding_windows(X):
    """Each pixel gets the mean over the windows that cover it."""
    found = attribute_uncertainty(
        weighted(np.ones((14, 14))), np.ones((1, 14, 14)), method="occlusion", perturbation=nothing
    )
    np.testing.assert_allclose(found.values, 4.0)  # windows of 2 × 2


def test_experimental_shares_are_not_negative_and_sum_to_the_uncertainty(X, digits):
    rows = (X, digits[0][:5].reshape(-1, 8, 8) * 1.0)
    for function, some in zip((weighted(WEIGHTS), lambda x: (x**2).sum((1, 2)) + 1), rows):
        found = attribute_uncertainty(function, some, method="ua_backprop")
        assert (found.values >= 0).all()
        np.testing.assert_allclose(found.values.sum((1, 2)), found.uncertainty, rtol=1e-9)
    flat = attribute_uncertainty(lambda x: x.sum((1, 2)) * 0 + 2, X, method="ua_backprop")
    np.testing.assert_allclose(flat.values, 2 / 32)


def test_segments_average_pixels_and_keep_sums(X):
    one, averaged = (
        attribute_uncertainty(
            weighted(WEIGHTS), X, method="integrated_gradients", segments=segments
        ).values
        for segments in (None, SQUARES)
    )
    np.testing.assert_allclose(one.sum((1, 2)), averaged.sum((1, 2)), rtol=1e-6)
    for k in range(8):
        block = averaged[:, SQUARES == k]
        np.testing.assert_allclose(block, one[:, SQUARES == k].mean(1, keepdims=True).repeat(4, 1))


def test_one_segment():
    U, X = additive(np.arange(8.0))
    whole = np.zeros((4, 8), int)
    for method in ("kernel_shap", "lime", "occlusion", "optimized"):
        found = attribute_uncertainty(
            U, X, method=method, segments=whole, perturbation=nothing, sparsity=0.5
        )
        np.testing.assert_allclose(found.values, 28 / 32)
    assert found.mask.all()


def test_gradients_are_those_of_a_hand_written_ensemble():
    """Through the engine, as by autograd on the members."""
    torch.manual_seed(0)
    members = [
        nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3)).double()
        for _ in range(3)
    ]
    X = np.random.default_rng(0).normal(size=(5, 1, 4, 4))
    network = from_trained(
        members, X, np.arange(5) % 3, task="classification", precision="float64", random_state=0
    )
    x = torch.tensor(X, requires_grad=True)
    proba = torch.stack([member(x) for member in members]).softmax(-1).mean(0)
    entropy = -(proba * proba.log()).sum(-1)
    (expected,) = torch.autograd.grad(entropy.sum(), x)
    found = attribute_uncertainty(network, X, method="gradient")
    np.testing.assert_allclose(found.uncertainty, entropy.detach(), rtol=1e-9)
    np.testing.assert_allclose(found.values, expected.abs()[:, 0], rtol=1e-6, atol=1e-12)
