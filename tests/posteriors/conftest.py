"""Noise that tests of the Laplace approximation know."""

import pytest
import torch

from skuq.posteriors import _last_layer_laplace as module_under_test


@pytest.fixture
def unit_noise(monkeypatch):
    """Deviations become the columns of a root of the covariance: it is known to the last digit."""

    def units(self, n_pairs, seed):
        yield torch.eye(self.weight.numel()).double().reshape(-1, *self.weight.shape)

    monkeypatch.setattr(module_under_test._Head, "noise", units)
