"""Data, networks, and the loops over them that a user would write by hand: the bases of the tables.

Every contender of a table gets the same of these: data, architecture, epochs, batches, dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skuq import TorchClassifier
from skuq.modules import MLP
from skuq.posteriors import PointEstimate

LR = 1e-3
BATCH = 200  # of training the MLP
IMAGE_BATCH = 128  # of training the conv net
DIGITS_BATCH = 64  # of training an MLP on digits
SLICE = 1024  # rows of the MLP in one prediction
IMAGE_SLICE = 128  # images in one prediction
N_CLASSES = 10

# ---------------------------------------------------------------------------------------------
# Data


def table_data(
    n_rows: int, seed: int = 0, n_classes: int = N_CLASSES
) -> tuple[np.ndarray, np.ndarray]:
    """20 features; the class is the largest of noisy linear scores."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(n_rows, 20)).astype(np.float32)
    scores = X @ np.random.default_rng(123).normal(size=(20, n_classes)).astype(np.float32)
    scores += random.normal(size=scores.shape).astype(np.float32)
    return X, scores.argmax(1)


def image_data(n_rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """28 × 28 images; a bright row says which of ten classes it is."""
    random = np.random.default_rng(seed)
    y = random.integers(N_CLASSES, size=n_rows)
    X = random.normal(size=(n_rows, 1, 28, 28)).astype(np.float32)
    X[np.arange(n_rows), 0, 2 * y + 4] += 1
    return X, y


def logits_and_labels(n_rows: int, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from softmax(z), and logits 2.5 z in float32: T = 2.5 is about right."""
    random = np.random.default_rng(0)
    z = 2 * random.normal(size=(n_rows, n_classes)).astype(np.float32)
    y = (z + random.gumbel(size=z.shape).astype(np.float32)).argmax(axis=1)
    return 2.5 * z, y


def tensors(*arrays: np.ndarray) -> tuple[Tensor, ...]:
    return tuple(map(torch.from_numpy, arrays))


# ---------------------------------------------------------------------------------------------
# Networks


def plain_mlp(n_features: int = 20, n_outputs: int = N_CLASSES) -> nn.Module:
    """20-100-100-10 without dropout."""
    return nn.Sequential(
        nn.Linear(n_features, 100),
        nn.ReLU(),
        nn.Linear(100, 100),
        nn.ReLU(),
        nn.Linear(100, n_outputs),
    )


def dropout_mlp() -> nn.Module:
    """The same with dropout after every hidden layer."""
    return MLP(20, N_CLASSES, dropout=0.1, activation="relu")


class ConvNet(nn.Module):
    """Two convolutions with pooling, and a head with dropout before its last layer."""

    def __init__(self, n_outputs: int = N_CLASSES, dropout: float = 0.5, width: int = 128) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.head = nn.Sequential(
            nn.Linear(32 * 7 * 7, width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width, n_outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x))

    def before_dropout(self, x: Tensor) -> Tensor:
        return self.head[:2](self.trunk(x))

    def after_dropout(self, x: Tensor) -> Tensor:
        return self.head[3](x)


class seeded:
    """A factory whose modules all begin with the same weights."""

    def __init__(self, factory: Callable[..., nn.Module]) -> None:
        self.factory = factory

    def __call__(self, n_outputs: int = N_CLASSES) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.factory(n_outputs=n_outputs)


# ---------------------------------------------------------------------------------------------
# Loops


def loop_fit(
    module: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    epochs: int = 1,
    batch: int = BATCH,
    shuffle: bool = True,
) -> nn.Module:
    """Fused Adam, batches as slices of a shuffled copy, no record of the losses."""
    optimizer = torch.optim.Adam(module.parameters(), lr=LR, fused=True)
    criterion = nn.CrossEntropyLoss()
    module.train()
    for _ in range(epochs):
        if shuffle:
            order = torch.randperm(len(inputs), device=inputs.device)
            inputs, targets = inputs[order], targets[order]
        for start in range(0, len(inputs), batch):
            optimizer.zero_grad(set_to_none=True)
            output = module(inputs[start : start + batch])
            criterion(output, targets[start : start + batch]).backward()
            optimizer.step()
    return module.eval()


@torch.no_grad()
def loop_proba(module: nn.Module, inputs: Tensor, size: int = SLICE) -> Tensor:
    """Probabilities, slice by slice."""
    proba = inputs.new_empty(len(inputs), N_CLASSES)
    for start in range(0, len(inputs), size):
        proba[start : start + size] = module(inputs[start : start + size]).softmax(1)
    return proba


@torch.no_grad()
def naive_dropout(module: nn.Module, inputs: Tensor, n_draws: int, size: int = SLICE) -> Tensor:
    """Mean probabilities over forwards with fresh dropout."""
    for layer in module.modules():
        layer.train(isinstance(layer, nn.Dropout))
    proba = torch.zeros(len(inputs), N_CLASSES, device=inputs.device)
    for start in range(0, len(inputs), size):
        rows = inputs[start : start + size]
        for _ in range(n_draws):
            proba[start : start + size] += module(rows).softmax(1)
    module.eval()
    return proba / n_draws


@torch.no_grad()
def trunk_and_heads(
    module: ConvNet, inputs: Tensor, n_draws: int, size: int = IMAGE_SLICE
) -> Tensor:
    """What MC dropout costs at least if draws are computed one by one, and masks cost nothing:
    one pass up to the dropout, and for each draw one of what follows it."""
    proba = torch.zeros(len(inputs), N_CLASSES, device=inputs.device)
    for start in range(0, len(inputs), size):
        hidden = module.before_dropout(inputs[start : start + size])
        for _ in range(n_draws):
            proba[start : start + size] += module.after_dropout(hidden).softmax(1)
    return proba / n_draws


# ---------------------------------------------------------------------------------------------
# skuq


def skuq_classifier(module: Any = plain_mlp, **parameters: Any) -> TorchClassifier:
    settings = {
        "posterior": PointEstimate(),
        "lr": LR,
        "max_epochs": 1,
        "batch_size": BATCH,
        "device": "cpu",
        "random_state": 0,
    }
    return TorchClassifier(module, **{**settings, **parameters})


def mean_entropy(proba: Any) -> float:
    p = np.clip(np.asarray(proba, dtype=float), 1e-300, 1)
    return float(-(p * np.log(p)).sum(1).mean())


def accuracy(proba: Any, y: np.ndarray) -> float:
    return float((np.asarray(proba).argmax(1) == y).mean())
