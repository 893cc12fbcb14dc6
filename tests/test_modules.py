"""Random features and their kernel, distance to the data; the masks of concrete dropout."""

import numpy as np
import pytest
import torch
from sklearn.datasets import make_moons
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from skuq import TorchClassifier
from skuq.modules import ConcreteDropout, RandomFeatures
from skuq.posteriors import LastLayerLaplace


@pytest.mark.parametrize("lengthscale", [0.5, 2.0])
def test_the_kernel_of_random_features(lengthscale):
    torch.manual_seed(0)
    layer = RandomFeatures(3, 20_000, lengthscale)
    x = torch.randn(6, 3)
    features = layer(x)
    expected = (-torch.cdist(x, x).square() / (2 * lengthscale**2)).exp()
    torch.testing.assert_close(features @ features.T / 20_000, expected, rtol=0, atol=0.04)
    assert not list(layer.parameters())


@pytest.mark.parametrize("bad", [(0, 5, 1.0), (2, 0, 1.0), (2, 5, 0.0)], ids=str)
def test_bad_parameters_of_random_features(bad):
    with pytest.raises(ValueError, match="of RandomFeatures must be positive"):
        RandomFeatures(*bad)


class Distant(nn.Sequential):
    def __init__(self, n_features, n_outputs):
        super().__init__(
            spectral_norm(nn.Linear(n_features, 32)), nn.ReLU(), RandomFeatures(32, 128),
            nn.Linear(128, n_outputs),
        )  # fmt: skip


def test_it_is_unsure_far_from_the_data():
    X, y = make_moons(120, noise=0.1, random_state=0)
    far = 30 * np.array([[1.0, 0.3], [-0.4, 1.0], [0.7, -1.0], [-1.0, -0.8]])
    options = {"posterior": LastLayerLaplace(), "max_epochs": 60, "lr": 0.01, "random_state": 0}
    knows = TorchClassifier(Distant, **options).fit(X, y)
    does_not = TorchClassifier(**options).fit(X, y)
    assert knows.score(X, y) > 0.95
    assert knows.predict_proba(far).max(1).mean() < 0.85
    assert does_not.predict_proba(far).max(1).mean() > 0.95
    near = knows.predict_uncertainty(X, kind="epistemic").mean()
    assert knows.predict_uncertainty(far, kind="epistemic").mean() > 3 * near


@pytest.mark.parametrize("shape", [(2, 5), (5, 2, 3)], ids=["linear", "convolution"])
def test_the_divergence_of_concrete_dropout(shape):
    n_outputs, n_inputs, *kernel = shape
    inner = nn.Conv1d(n_inputs, n_outputs, *kernel) if kernel else nn.Linear(n_inputs, n_outputs)
    layer = ConcreteDropout(inner, p=0.2, prior_scale=1.5).double()
    weight = layer.layer.weight.detach().numpy()
    scale = 1.5 / np.sqrt(n_inputs * np.prod(kernel))
    entropy = -0.2 * np.log(0.2) - 0.8 * np.log(0.8)
    expected = (weight**2).sum() / (2 * scale**2 * 0.8) - n_inputs * entropy
    assert layer.divergence().item() == pytest.approx(expected, rel=1e-7)  # p is a float32 at first
    layer.divergence().backward()
    logit = np.log(0.2 / 0.8)
    slope = (weight**2).sum() / (2 * scale**2 * 0.8**2) + n_inputs * logit  # in p
    assert layer.dropout.logit.grad.item() == pytest.approx(slope * 0.2 * 0.8, rel=1e-6)


def test_the_mask_of_concrete_dropout():
    """Its gradient, and its limits: 0 or 1 with the rate p when cold, one half when hot."""
    torch.manual_seed(0)
    x, uniform = torch.randn(4, 3).double(), torch.rand(4, 3).double()
    dropout = ConcreteDropout(nn.Linear(3, 2), p=0.3, temperature=0.5).double().dropout

    def output(logit, x):
        return torch.func.functional_call(dropout, {"logit": logit}, (x,))

    dropout.forward = lambda x: dropout.softly(x, uniform)
    logit = dropout.logit.detach().requires_grad_()
    assert torch.autograd.gradcheck(output, (logit, x.requires_grad_()))
    odds = (1 / uniform - 1) * (0.7 / 0.3)  # of being kept
    expected = x * odds**2 / (1 + odds**2) / 0.7
    torch.testing.assert_close(dropout.softly(x, uniform), expected, rtol=1e-6, atol=1e-8)
    ones, many = torch.ones(1), torch.linspace(0, 1, 10_000)
    dropout.temperature = 1e-5
    expected = (many < 0.7).float() / 0.7
    torch.testing.assert_close(dropout.softly(ones, many), expected)
    dropout.temperature = 1e4
    torch.testing.assert_close(
        dropout.softly(ones, many), torch.full((10_000,), 0.5 / 0.7), atol=1e-3, rtol=0
    )


def test_concrete_dropout_in_a_plain_loop():
    layer = ConcreteDropout(nn.Linear(4, 2), p=0.5)
    x = torch.ones(200, 4)
    torch.manual_seed(0)
    assert layer.train()(x).std(0).min() > 0
    torch.testing.assert_close(layer.eval()(x), layer.layer(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": nn.ReLU()}, "layer must be an nn.Linear or an nn.Conv1d to nn.Conv3d, got ReLU"),
        ({"p": 0.0}, r"p must be in \(0, 1\), got 0.0"),
        ({"p": 1.0}, "p must be in"),
        ({"prior_scale": 0.0}, "must be positive, got 0.0 and 0.1"),
        ({"temperature": 0.0}, "must be positive, got 3.0 and 0.0"),
    ],
    ids=lambda v: str(v)[:30],
)
def test_bad_parameters_of_concrete_dropout(options, message):
    with pytest.raises(ValueError, match=message):
        ConcreteDropout(**{"layer": nn.Linear(2, 2), **options})
