"""Adversarial training of ensembles: the rows, their clipping, stacks and checkpoints."""

import numpy as np
import pytest
import torch
from torch import nn

from skuq import Inputs, TorchClassifier, TorchRegressor
from skuq.posteriors import DeepEnsemble
from tests.networks.texts import BagOfTokens

OPTIONS = {
    "module__hidden_layer_sizes": (6,),
    "lr": 0.01,
    "max_epochs": 3,
    "batch_size": 60,
    "precision": "float64",
    "random_state": 0,
}


def linear_data(n_rows=40):
    random = np.random.default_rng(0)
    X = random.normal(size=(n_rows, 3)) * [1.0, 10.0, 0.0]
    return X, X @ [1.0, 0.2, 0.0] + random.normal(size=n_rows)


def clip_to(x, low, high):
    return torch.minimum(torch.maximum(x, low), high)


class Linear(nn.Sequential):
    def __init__(self, n_features, n_outputs):
        super().__init__(nn.Linear(n_features, n_outputs))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("step", [0.05, 0.8])
def test_a_step_by_hand(step, weighted):
    """One batch: the gradient of the loss at the rows, and at the moved and clipped rows."""
    X, y = linear_data()
    weight = np.linspace(0.5, 2, 40) if weighted else None
    options = {"optimizer": torch.optim.SGD, "lr": 0.1, "precision": "float64", "random_state": 0}
    posterior = DeepEnsemble(1, adversarial=step)
    begun = TorchClassifier(Linear, posterior=posterior, max_epochs=0, **options)
    labels = (y > 0).astype(int)
    network = begun.fit(X, labels).module_
    fitted = TorchClassifier(Linear, posterior=posterior, max_epochs=1, **options)
    fitted.fit(X, labels, sample_weight=weight)
    x, target = torch.as_tensor(X), torch.as_tensor(labels)
    low, high = x.amin(0), x.amax(0)
    scale = torch.ones(40) if weight is None else torch.as_tensor(weight / weight.mean())
    x.requires_grad_()

    def loss(rows):
        return (scale * nn.functional.cross_entropy(network(rows), target, reduction="none")).mean()

    direction = torch.autograd.grad(loss(x), x)[0].sign()
    moved = clip_to((x + step * (high - low) * direction).detach(), low, high)
    assert (moved[:, 2] == 0).all() and (moved - x).abs().max() > 0.1
    (loss(x) + loss(moved)).backward()
    for name, parameter in network.named_parameters():
        expected = parameter.detach() - 0.1 * parameter.grad
        torch.testing.assert_close(fitted.module_.get_parameter(name).detach(), expected)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_stacks_train_like_members_by_themselves(dropout, blobs):
    X, y = blobs
    options = {**OPTIONS, "module__dropout": dropout}
    found = [
        TorchClassifier(posterior=DeepEnsemble(3, n_jobs=n_jobs, adversarial=epsilon), **options)
        .fit(X, y)
        .predict_draws(X)
        for n_jobs, epsilon in ((None, 0.05), (1, 0.05), (None, 0.0))
    ]
    np.testing.assert_allclose(found[0], found[1], atol=1e-9)
    assert np.abs(found[0] - found[2]).max() > 1e-3


def test_moved_rows_get_a_smaller_loss(blobs):
    X, y = blobs
    x, target = torch.as_tensor(X).double(), torch.as_tensor(y)
    size = 0.1 * (x.amax(0) - x.amin(0))

    def loss_of_moved_rows(epsilon):
        options = {**OPTIONS, "max_epochs": 30, "module__dropout": 0.0}
        network = TorchClassifier(posterior=DeepEnsemble(2, adversarial=epsilon), **options).fit(
            X, y
        ).module_  # fmt: skip
        given = x.clone().requires_grad_()
        loss = nn.functional.cross_entropy(network(given), target)
        moved = x + size * torch.autograd.grad(loss, given)[0].sign()
        return float(nn.functional.cross_entropy(network(moved), target).detach())

    assert loss_of_moved_rows(0.1) < 0.9 * loss_of_moved_rows(0.0)


def test_several_targets_and_images():
    X, y = linear_data()
    posterior = DeepEnsemble(2, adversarial=0.01)
    options = {"max_epochs": 2, "random_state": 0}
    regressor = TorchRegressor(posterior=posterior, **options).fit(X, np.column_stack([y, -y]))
    assert regressor.predict(X).shape == (40, 2)


class Sums(nn.Module):
    def __init__(self, n_outputs):
        super().__init__()
        self.head = nn.Linear(1, n_outputs)

    def forward(self, x, mask):
        return self.head((x * mask[..., None]).sum(-2))


def test_rows_of_several_lengths():
    rows = [np.ones((1 + k % 5, 1)) * (k % 2) for k in range(20)][::-1]
    posterior = DeepEnsemble(2, adversarial=0.01)
    options = {"batch_size": 3, "max_epochs": 2, "random_state": 0}
    model = TorchClassifier(Sums, posterior=posterior, **options)
    model.fit(Inputs(x=rows), np.arange(20) % 2)
    assert np.isfinite(model.predict_proba(Inputs(x=rows))).all()
    ids = Inputs(input_ids=[[1, 2], [3]] * 10)
    with pytest.raises(ValueError, match="BagOfTokens has none in X, as for token ids"):
        TorchClassifier(BagOfTokens, posterior=posterior, **options).fit(ids, [0, 1] * 10)


def test_a_checkpoint(blobs, tmp_path):
    X, y = blobs
    options = {"posterior": DeepEnsemble(2, n_jobs=1, adversarial=0.05), **OPTIONS}
    whole = TorchClassifier(**options).fit(X, y)
    saved = TorchClassifier(checkpoint_dir=tmp_path, **options).fit(X, y)
    np.testing.assert_array_equal(saved.predict_proba(X), whole.predict_proba(X))


def test_bad_parameters(blobs):
    with pytest.raises(ValueError, match="The 'adversarial' parameter of DeepEnsemble"):
        TorchClassifier(posterior=DeepEnsemble(adversarial=-0.1)).fit(*blobs)
