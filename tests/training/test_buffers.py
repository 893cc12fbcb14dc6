"""Buffers with persistent=False that training changes: best weights hold them, too."""

import numpy as np
import pytest
import torch
from skorch.callbacks import EarlyStopping
from torch import nn

from skuq import TorchClassifier
from skuq._networks._weights import put_weights, weights_of
from skuq.posteriors import DeepEnsemble, PointEstimate


class Counting(nn.Module):
    """Counts its steps in a buffer that no state dict holds, and grows louder with each."""

    def __init__(self, n_features, n_outputs):
        super().__init__()
        self.layer = nn.Linear(n_features, n_outputs)
        self.register_buffer("seen", torch.zeros(()), persistent=False)

    def forward(self, x):
        if self.training:
            self.seen += 1
        return self.layer(x) * (1 + 0.5 * self.seen[..., None, None])


def fit(X, y, posterior, **options):
    options = {"early_stopping": True, "n_iter_no_change": 3, "max_epochs": 15, **options}
    return TorchClassifier(
        Counting, posterior=posterior, lr=0.5, batch_size=64, random_state=0, **options
    ).fit(X, y)


def steps_of_best(history):
    """Steps up to the best epoch, which is not the last."""
    best = int(np.argmin([row["valid_loss"] for row in history])) + 1
    assert best < len(history)
    return best * history[0]["train_batch_count"]


@pytest.fixture(scope="module")
def noisy():
    random = np.random.default_rng(0)
    X = random.normal(size=(240, 4)).astype(np.float32)
    return X, (X[:, 0] + random.normal(size=240) > 0).astype(int)


def members(fitted):
    draws = fitted._engine.draws
    return draws.tensors(0, draws.n_draws)["seen"].flatten().tolist()


@pytest.mark.parametrize("n_jobs", [None, 1])
def test_the_best_of_an_ensemble(noisy, n_jobs):
    """None trains a stack; 1 one network after another."""
    fitted = fit(*noisy, DeepEnsemble(2, n_jobs=n_jobs))
    assert members(fitted) == [steps_of_best(history) for history in fitted.histories_]


def test_a_stack_without_early_stopping(noisy):
    fitted = fit(*noisy, DeepEnsemble(2), early_stopping=False, max_epochs=2)
    assert members(fitted) == [2 * h[0]["train_batch_count"] for h in fitted.histories_]


def test_a_stack_is_what_its_networks_are(noisy):
    one, other = (fit(*noisy, DeepEnsemble(2, n_jobs=n_jobs)) for n_jobs in (None, 1))
    np.testing.assert_allclose(
        one.predict_proba(noisy[0]), other.predict_proba(noisy[0]), atol=1e-4
    )


@pytest.mark.parametrize("own", [False, True])
def test_the_best_of_one_network(noisy, own):
    """Of early stopping, and of a callback of skorch that a user gives."""
    stopping = EarlyStopping(load_best=True, patience=3, sink=lambda text: None)
    options = {"callbacks": [stopping], "n_iter_no_change": 15} if own else {}
    fitted = fit(*noisy, PointEstimate(), **options)
    assert fitted.module_.seen.item() == steps_of_best(fitted.history_)


def test_weights_go_back_into_modules_that_make_their_buffers():
    one, other = Counting(2, 2), Counting(2, 2)
    one.register_buffer("late", torch.ones(3), persistent=False)
    one.seen = torch.full((2,), 7.0)
    put_weights(other, weights_of(one))
    assert other.state_dict().keys() == one.state_dict().keys()
    assert torch.equal(other.seen, one.seen) and torch.equal(other.late, one.late)
    with pytest.raises(RuntimeError, match="Missing key"):
        put_weights(other, {"seen": one.seen})
