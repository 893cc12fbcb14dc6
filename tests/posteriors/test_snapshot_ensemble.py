"""Snapshots: cycles of the learning rate, each from the end of the one before."""

import numpy as np
import pytest
import torch
from torch import nn

from skuq import TorchClassifier
from skuq.posteriors import PointEstimate, SnapshotEnsemble

OPTIONS = {
    "module__hidden_layer_sizes": (6,),
    "lr": 0.01,
    "max_epochs": 4,
    "batch_size": 60,
    "random_state": 0,
}


def classifier(posterior, **options):
    return TorchClassifier(posterior=posterior, **{**OPTIONS, **options})


def test_the_cycles_by_hand(blobs):
    """With one batch an epoch, nothing is left to chance."""
    X, y = blobs
    options = {"batch_size": 240, "module__dropout": 0.0, "optimizer": torch.optim.SGD, "lr": 0.1}
    posterior = SnapshotEnsemble(n_cycles=3, lr_factor=2.0, n_epochs=4)
    fitted = classifier(posterior, **options).fit(X, y)
    network = classifier(PointEstimate(), **options).fit(X, y).module_.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    draws = fitted._engine.draws.tensors(0, 3)
    for cycle in range(3):
        for name, value in network.named_parameters():
            torch.testing.assert_close(draws[name][cycle], value.detach(), rtol=0, atol=1e-5)
        for factor in (2.0, 1 + 0.5**0.5, 1.0, 1 - 0.5**0.5):  # 1 + cos(π t)
            optimizer.param_groups[0]["lr"] = 0.1 * factor
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(torch.as_tensor(X)), torch.as_tensor(y)).backward()
            optimizer.step()


def test_the_first_cycle_is_the_training(blobs):
    X, y = blobs
    fitted = classifier(SnapshotEnsemble(n_cycles=3)).fit(X, y)
    alone = classifier(PointEstimate()).fit(X, y)
    draws = fitted.predict_draws(X)
    np.testing.assert_array_equal(draws[0], alone.predict_proba(X))
    assert np.abs(draws[1:] - draws[:-1]).max() > 0.01
    assert len(fitted.histories_) == 1 and fitted.n_iter_ == 4


def test_without_training(blobs):
    X, y = blobs
    trained = classifier(PointEstimate()).fit(X, y).module_
    options = {"max_epochs": 0, "lr": 0.01, "random_state": 0}
    with pytest.raises(ValueError, match="set n_epochs of SnapshotEnsemble"):
        TorchClassifier(lambda: trained, posterior=SnapshotEnsemble(), **options).fit(X, y)
    posterior = SnapshotEnsemble(n_cycles=2, n_epochs=1)
    fitted = TorchClassifier(lambda: trained, posterior=posterior, **options).fit(X, y)
    assert fitted.predict_draws(X).shape[0] == 2


class Interrupted(nn.Sequential):
    """Ctrl-C at a call of forward."""

    at = None

    def __init__(self, n_features, n_outputs):
        super().__init__(nn.Linear(n_features, n_outputs))
        self.n_calls = 0

    def forward(self, x):
        if self.training:
            self.n_calls += 1
            if self.n_calls == Interrupted.at:
                raise KeyboardInterrupt
        return super().forward(x)


@pytest.mark.parametrize(("after", "n_whole"), [(8 + 6, 1), (8 + 20 + 6, 2)])
def test_ctrl_c_keeps_whole_cycles(after, n_whole, blobs):
    X, y = blobs
    posterior = SnapshotEnsemble(n_cycles=4, n_epochs=5)
    model = TorchClassifier(
        Interrupted, posterior=posterior, on_interrupt="keep",
        lr=0.01, max_epochs=2, batch_size=60, random_state=0,
    )  # fmt: skip
    Interrupted.at = None
    whole = model.fit(X, y).predict_draws(X)
    n_before = int(model.module_.n_calls) - 8  # of the looks at the untrained network
    Interrupted.at = n_before + after
    with pytest.warns(UserWarning, match="1 of 5 epochs that follow training"):
        model.fit(X, y)
    Interrupted.at = None
    np.testing.assert_array_equal(model.predict_draws(X), whole[:n_whole])
    assert model.interrupted_


@pytest.mark.parametrize("bad", [{"n_cycles": 0}, {"lr_factor": 0.0}, {"n_epochs": 0}], ids=str)
def test_bad_parameters(bad, blobs):
    with pytest.raises(ValueError, match=f"The '{next(iter(bad))}' parameter of SnapshotEnsemble"):
        classifier(SnapshotEnsemble(**bad)).fit(*blobs)
