"""Training deep ensembles: ten networks at once against ten by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import nn

from benchmarks import peers
from benchmarks.harness import Bar, Report, check, torch_threads
from benchmarks.models import (
    IMAGE_BATCH,
    IMAGE_SLICE,
    ConvNet,
    accuracy,
    image_data,
    loop_fit,
    loop_proba,
    plain_mlp,
    skuq_classifier,
    table_data,
    tensors,
)
from benchmarks.training import check_conv
from skuq.posteriors import DeepEnsemble

N_MEMBERS = 10
EPOCHS = 3  # of the MLP, as where one is fitted


def loops(
    factory: Callable[[], nn.Module], X: np.ndarray, y: np.ndarray, **settings: Any
) -> list[nn.Module]:
    inputs, targets = tensors(X, y)
    return [loop_fit(factory(), inputs, targets, **settings) for _ in range(N_MEMBERS)]


def mean_proba(modules: list[nn.Module], X: np.ndarray, size: int) -> np.ndarray:
    (inputs,) = tensors(X)
    return (sum(loop_proba(module, inputs, size) for module in modules) / len(modules)).numpy()


def stacked(module: Any, **settings: Any) -> Any:
    return skuq_classifier(module, posterior=DeepEnsemble(N_MEMBERS), **settings)


def ensemble_mlp(report: Report) -> None:
    n_rows = report.sized(10_000, 2000)
    table = f"deep ensemble, {N_MEMBERS} × MLP, {n_rows:,} rows × {EPOCHS} epochs"
    X, y = table_data(n_rows)
    X_test, y_test = table_data(5000, seed=1)
    others = {
        "ten stock skorch nets": peers.ensemble_skorch,
        **peers.present(report, table, peers.ENSEMBLES),
    }
    base = accuracy(mean_proba(loops(plain_mlp, X, y, epochs=EPOCHS), X_test, 1000), y_test)
    scores = {"skuq": stacked(plain_mlp, max_epochs=EPOCHS).fit(X, y).score(X_test, y_test)}
    for name, fit in others.items():
        scores[name] = accuracy(fit(X, y, EPOCHS, N_MEMBERS)(X_test), y_test)
    for name, score in scores.items():
        check(f"accuracies of {name} and of the loops", score, base, 0.2 if report.quick else 0.05)
    contenders = {
        "ten torch loops": lambda: loops(plain_mlp, X, y, epochs=EPOCHS),
        "skuq": lambda: stacked(plain_mlp, max_epochs=EPOCHS).fit(X, y),
        **{name: lambda fit=fit: fit(X, y, EPOCHS, N_MEMBERS) for name, fit in others.items()},
    }
    report.time(table, contenders, [Bar("skuq", "ten torch loops", 0.50)], slow=others)


def ensemble_threads(report: Report) -> None:
    """The base keeps one thread: a small MLP trained by itself gains nothing from a second."""
    n_rows = report.sized(10_000, 2000)
    table = f"deep ensemble, {N_MEMBERS} × MLP, {n_rows:,} rows × {EPOCHS} epochs, wall clock"
    X, y = table_data(n_rows)

    def two(work: Callable[[], Any]) -> Callable[[], None]:
        def call() -> None:
            with torch_threads(2):
                work()

        return call

    contenders = {
        "ten torch loops, one thread": lambda: loops(plain_mlp, X, y, epochs=EPOCHS),
        "ten torch loops, two threads": two(lambda: loops(plain_mlp, X, y, epochs=EPOCHS)),
        "skuq, two threads": two(lambda: stacked(plain_mlp, max_epochs=EPOCHS).fit(X, y)),
    }
    bars = [Bar("skuq, two threads", "ten torch loops, one thread", 0.35)]
    report.time(table, contenders, bars)


def ensemble_conv(report: Report) -> None:
    n_rows = report.sized(10_000, 300)
    table = f"deep ensemble, {N_MEMBERS} × conv net, {n_rows:,} images, 1 epoch"
    X, y = image_data(n_rows)
    X_test, y_test = image_data(1000, seed=1)
    check_conv(X[:1000], y[:1000])

    def by_hand() -> list[nn.Module]:
        return loops(ConvNet, X, y, batch=IMAGE_BATCH)

    def ours() -> Any:
        return stacked(ConvNet, batch_size=IMAGE_BATCH).fit(X, y)

    check(
        "accuracies of skuq and of the loops",
        ours().score(X_test, y_test),
        accuracy(mean_proba(by_hand(), X_test, IMAGE_SLICE), y_test),
        0.5 if report.quick else 0.05,
    )
    base = "ten torch loops, default memory format"
    # Tens of seconds a turn: both are measured in few turns.
    contenders = {base: by_hand, "skuq": ours}
    report.time(table, contenders, [Bar("skuq", base, 0.85)], slow=contenders)
