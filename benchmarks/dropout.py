"""Monte-Carlo dropout at prediction: time and memory.

Masks are random: skuq's are drawn once and shared by all rows, the others' are fresh in each pass.
So what is checked is that mean entropies and accuracies agree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import peers
from benchmarks.harness import Bar, Report, check
from benchmarks.memory import extra_memory
from benchmarks.models import (
    IMAGE_BATCH,
    IMAGE_SLICE,
    ConvNet,
    accuracy,
    dropout_mlp,
    image_data,
    mean_entropy,
    naive_dropout,
    skuq_classifier,
    table_data,
    tensors,
    trunk_and_heads,
)
from skuq import TorchClassifier
from skuq.modules import MLP
from skuq.posteriors import MCDropout

Model = tuple[TorchClassifier, nn.Module]


def conv_model(n_draws: int, n_train: int = 1000) -> Model:
    """skuq's estimator, and the same weights in a plain module."""
    X, y = image_data(n_train)
    posterior = MCDropout(n_draws)
    settings = {"batch_size": IMAGE_BATCH, "max_epochs": 3, "posterior": posterior}
    return _with_plain(skuq_classifier(ConvNet, **settings).fit(X, y), ConvNet())


def mlp_model(n_draws: int) -> Model:
    X, y = table_data(10_000)
    ours = skuq_classifier(MLP, posterior=MCDropout(n_draws), max_epochs=3).fit(X, y)
    return _with_plain(ours, dropout_mlp())


def _with_plain(ours: TorchClassifier, plain: nn.Module) -> Model:
    plain.load_state_dict(ours.module_.state_dict())
    return ours, plain.eval()


def check_answers(
    ours: TorchClassifier, others: dict[str, Callable[[Tensor], Tensor]], X: np.ndarray, y: Any
) -> None:
    expected = ours.predict_proba(X)
    tolerance = max(0.05, 2 / len(X) ** 0.5)  # of few rows, accuracies of the same law differ more
    for name, predict in others.items():
        proba = predict(torch.from_numpy(X))
        what = f"of skuq and of {name}"
        check(f"mean entropies {what}", mean_entropy(expected), mean_entropy(proba), 0.05)
        check(f"accuracies {what}", accuracy(expected, y), accuracy(proba, y), tolerance)


def dropout_conv(report: Report) -> None:
    n_rows, n_draws = report.sized(10_000, 500), report.sized(100, 20)
    table = f"MC dropout, conv net with dropout in its head, T = {n_draws}, {n_rows:,} images"
    X, y = image_data(n_rows, seed=1)
    ours, module = conv_model(n_draws)
    few = X[:500], y[:500]
    naive = {"forwards with fresh masks": lambda x: naive_dropout(module, x, n_draws, IMAGE_SLICE)}
    check_answers(ours, naive, *few)
    (inputs,) = tensors(X)
    base = f"one trunk pass + {n_draws} dropout-free head passes"
    contenders = {
        base: lambda: trunk_and_heads(module, inputs, n_draws),
        "skuq, predict_proba": lambda: ours.predict_proba(X),
        "skuq, predict_uncertainty, all three": lambda: ours.predict_uncertainty(X, kind="all"),
    }
    report.time(table, contenders, [Bar("skuq, predict_proba", base, 1.1)])


def dropout_conv_peers(report: Report) -> None:
    """On fewer images: a loop over whole forwards takes minutes for all of them."""
    n_rows, n_draws = report.sized(500, 100), report.sized(100, 20)
    table = f"MC dropout beside others, the same conv net, T = {n_draws}, {n_rows} images"
    X, y = image_data(n_rows, seed=1)
    ours, module = conv_model(n_draws)
    (inputs,) = tensors(X)
    others = _others(report, table, module, n_draws, IMAGE_SLICE)
    check_answers(ours, others, X, y)
    base = f"one trunk pass + {n_draws} dropout-free head passes"
    contenders = {
        base: lambda: trunk_and_heads(module, inputs, n_draws),
        "skuq": lambda: ours.predict_proba(X),
        **{name: lambda predict=predict: predict(inputs) for name, predict in others.items()},
    }
    report.time(table, contenders, slow=others)


def _others(
    report: Report, table: str, module: nn.Module, n_draws: int, size: int
) -> dict[str, Callable[[Tensor], Tensor]]:
    found = peers.present(report, table, peers.DROPOUTS)
    return {
        f"loop of {n_draws} forwards": lambda x: naive_dropout(module, x, n_draws, size),
        **{
            name: lambda x, predict=predict: peers.in_slices(predict, module, x, n_draws, size)
            for name, predict in found.items()
        },
    }


def dropout_mlp_draws(report: Report) -> None:
    n_rows, n_draws = report.sized(10_000, 2000), 30
    table = f"MC dropout, MLP with dropout in every layer, T = {n_draws}, {n_rows:,} rows"
    X, y = table_data(n_rows, seed=1)
    ours, module = mlp_model(n_draws)
    (inputs,) = tensors(X)
    others = _others(report, table, module, n_draws, size=1024)
    check_answers(ours, others, X, y)
    base = f"loop of {n_draws} forwards"
    contenders = {
        base: lambda: others[base](inputs),
        "skuq": lambda: ours.predict_proba(X),
        "skuq, predict_uncertainty, all three": lambda: ours.predict_uncertainty(X, kind="all"),
        **{n: lambda p=p: p(inputs) for n, p in others.items() if n != base},
    }
    report.time(table, contenders, [Bar("skuq", base, 0.15)])


# ---------------------------------------------------------------------------------------------
# Memory


def prepare_images(n_rows: int, n_draws: int, how: str) -> Callable[[], Any]:
    X, _ = image_data(n_rows, seed=1)
    ours, module = conv_model(n_draws)
    ours.predict_proba(X[:200])  # what a first call allocates for good is not of this call
    if how == "skuq":
        return lambda: ours.predict_uncertainty(X, kind="all")
    (inputs,) = tensors(X)
    predict = peers.DROPOUTS[how]
    return lambda: peers.in_slices(predict, module, inputs, n_draws, IMAGE_SLICE)


def prepare_classes(n_rows: int, n_draws: int, n_classes: int) -> Callable[[], Any]:
    X, _ = table_data(n_rows, seed=1, n_classes=n_classes)
    y = np.arange(10 * n_classes) % n_classes
    ours = skuq_classifier(MLP, posterior=MCDropout(n_draws), module__hidden_layer_sizes=(32,))
    ours.fit(X[: len(y)], y)
    ours.predict_proba(X[:200])

    def call() -> None:
        ours.predict_uncertainty(X, kind="all")
        ours.predict_proba(X)

    return call


def dropout_memory(report: Report) -> None:
    table = "extra memory of MC dropout"
    n_rows, n_draws = report.sized(10_000, 500), report.sized(100, 20)
    what = f"skuq, T = {n_draws}, conv net, {n_rows:,} images"
    report.memory(table, what, extra_memory(prepare_images, n_rows, n_draws, "skuq"), limit=100)
    for name in peers.present(report, table, peers.DROPOUTS):
        n_few = report.sized(500, 100)
        used = extra_memory(prepare_images, n_few, n_draws, name)
        report.memory(table, f"{name}, T = {n_draws}, {n_few} images, {IMAGE_SLICE} at once", used)
    n_rows, n_draws, n_classes = report.sized(100_000, 2000), 200, report.sized(100, 20)
    limit = 3 * n_rows * n_classes * 8 / 2**20  # three times the probabilities in float64
    used = extra_memory(prepare_classes, n_rows, n_draws, n_classes)
    what = f"skuq, T = {n_draws}, MLP, {n_rows:,} rows × {n_classes} classes, with the answers"
    report.memory(table, what, used, limit)
