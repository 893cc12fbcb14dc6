"""Random features: their kernel, and a network that knows how far it is from its data."""

import numpy as np
import pytest
import torch
from sklearn.datasets import make_moons
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from skuq import TorchClassifier
from skuq.modules import RandomFeatures
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
