"""Ensembles on several devices, of which a machine without a GPU has many.

A CPU can have any number as an index: what runs on "cpu:1" is told from what runs on "cpu:0",
though both are one and the same.
"""

import numpy as np
import torch

from skuq import TorchClassifier
from skuq.posteriors import DeepEnsemble
from tests import networks

TWO = ["cpu:0", "cpu:1"]


def ensemble(n_members=5, device="cpu", n_jobs=None, module=networks.ResidualNet, **options):
    options = {"max_epochs": 3, "batch_size": 60, "lr": 0.01, "random_state": 0, **options}
    posterior = DeepEnsemble(n_members, n_jobs=n_jobs)
    return TorchClassifier(module, posterior=posterior, device=device, **options)


def states(fitted):
    draws = fitted._engine.draws
    return draws.tensors(0, draws.n_draws)


def assert_same(one, other, X):
    for name, tensor in states(one).items():
        assert torch.equal(tensor, states(other)[name]), name
    assert np.array_equal(one.predict_draws(X), other.predict_draws(X))
    untimed = [
        [[{**row, "dur": 0} for row in history] for history in fitted.histories_]
        for fitted in (one, other)
    ]
    assert untimed[0] == untimed[1]
