"""Fits that are killed at a place of one's choice, and what they must have in common."""

import numpy as np
import torch
from skorch.callbacks import Callback
from torch import nn

from skuq import TorchClassifier
from skuq.posteriors import PointEstimate
from tests import networks


class Killed(BaseException):
    """As if the process were gone: nobody catches it, nothing is tidied up."""


class Faults:
    """Counts the places at which a fit may be killed, and kills it at one."""

    count = 0
    at = None

    @classmethod
    def here(cls):
        cls.count += 1
        if cls.count == cls.at:
            raise Killed


class Fallible(networks.ResidualNet):
    """Dropout at several places, BatchNorm, a number that the forward counts in."""

    def __init__(self, n_features, n_outputs):
        super().__init__(n_features, n_outputs)
        self.norm = nn.BatchNorm1d(16)
        self.register_buffer("scale", torch.ones(1), persistent=False)
        self.calls = 0

    def forward(self, x):
        if self.training:
            self.calls += 1
            Faults.here()
        x = torch.relu(self.norm(self.inner(x)))
        return self.outer(self.dropout(x)) * self.scale


class Stackable(networks.ResidualNet):
    """A stack of it trains as one."""

    def forward(self, x):
        if self.training:
            Faults.here()
        return super().forward(x)


class Noisy(networks.Functional):
    """Draws from the global generator of torch in training."""

    def forward(self, x):
        if self.training:
            Faults.here()
        return super().forward(x)


class Remembers(Callback):
    """Scales the learning rate by what it remembers of all epochs."""

    def __init__(self):
        self.losses = []
        self.seen = {"best": np.float64(np.inf), "norm": torch.zeros(2)}

    def on_epoch_end(self, net, **kwargs):
        self.losses.append(net.history[-1]["train_loss"])
        self.seen["best"] = min(self.seen["best"], self.losses[-1])
        self.seen["norm"] = self.seen["norm"] + 1
        for group in net.optimizer_.param_groups:
            group["lr"] = 0.01 / (1 + np.mean(self.losses)) / float(self.seen["norm"][0])


def classifier(module=Fallible, posterior=None, **options):
    options = {"max_epochs": 5, "batch_size": 50, "lr": 0.01, "random_state": 0, **options}
    return TorchClassifier(module, posterior=posterior or PointEstimate(), **options)


def state_of(fitted):
    """All that training made."""
    histories = [[{**row, "dur": 0} for row in history] for history in fitted.histories_]
    networks = fitted._engine.draws.networks(len(fitted.histories_))
    return histories, [network.state_dict() for network in networks]


def assert_same(found, expected):
    (histories, weights), (expected_histories, expected_weights) = map(state_of, (found, expected))
    assert histories == expected_histories
    for network, other in zip(weights, expected_weights):
        assert network.keys() == other.keys()
        assert all(torch.equal(network[name], other[name]) for name in network)
