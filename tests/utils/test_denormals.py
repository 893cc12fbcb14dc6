"""Training rounds denormal numbers to 0, and leaves the mode of the thread as it was."""

import math

import numpy as np
import pytest
import torch

from skuq import TorchClassifier
from skuq._utils._denormals import without_denormals
from skuq.posteriors import DeepEnsemble, PointEstimate
from tests import networks

pytestmark = pytest.mark.skipif(
    not torch.set_flush_denormal(False), reason="this CPU computes with denormal numbers"
)


def flushes():
    return math.ulp(0.0) * 1.0 == 0.0 and not bool(torch.full((1,), 1e-40) * 1 > 0)


@pytest.fixture(params=[False, True])
def before(request):
    torch.set_flush_denormal(request.param)
    yield request.param
    torch.set_flush_denormal(False)


def test_the_mode_comes_back(before):
    with without_denormals():
        assert flushes()
    assert flushes() is before
    with pytest.raises(ZeroDivisionError), without_denormals():
        raise ZeroDivisionError
    assert flushes() is before


class Asks(networks.Plain):
    seen: list = []

    def forward(self, x):
        if self.training and torch.is_grad_enabled():
            self.seen.append(flushes())
        return super().forward(x)


@pytest.mark.parametrize("posterior", [PointEstimate(), DeepEnsemble(2)], ids=["one", "several"])
def test_training_is_without_them(posterior, before):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(12, 3)), np.arange(12) % 2
    Asks.seen.clear()
    TorchClassifier(Asks, posterior=posterior, max_epochs=2, random_state=0).fit(X, y)
    assert Asks.seen[-1] and flushes() is before
