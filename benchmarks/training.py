"""Training one network, what a callback adds, and what `import skuq` takes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
from skorch.callbacks import Callback
from torch import nn

from benchmarks import peers
from benchmarks.harness import Bar, Report, check, median_and_quartiles
from benchmarks.models import (
    IMAGE_BATCH,
    IMAGE_SLICE,
    ConvNet,
    accuracy,
    image_data,
    loop_fit,
    loop_proba,
    plain_mlp,
    seeded,
    skuq_classifier,
    table_data,
    tensors,
)


def fit_short(report: Report) -> None:
    _fit_mlp(report, report.sized(10_000, 2000), epochs=3)


def fit_long(report: Report) -> None:
    _fit_mlp(report, report.sized(100_000, 4000), epochs=1)


def _fit_mlp(report: Report, n_rows: int, epochs: int) -> None:
    table = f"fit, MLP 20-100-100-10, batch 200, {n_rows:,} rows × {epochs} epochs"
    X, y = table_data(n_rows)
    inputs, targets = tensors(X, y)
    _check_same_weights(X, y)
    others = {
        "scikit-learn MLPClassifier, float32": peers.fit_scikit_learn,
        "stock skorch": peers.fit_skorch,
        **peers.present(report, table, peers.FITS),
    }
    X_test, y_test = table_data(5000, seed=1)
    base = accuracy(
        loop_proba(loop_fit(plain_mlp(), inputs, targets, epochs), *tensors(X_test)), y_test
    )
    scores = {"skuq": skuq_classifier(max_epochs=epochs).fit(X, y).score(X_test, y_test)}
    for name, fit in others.items():
        scores[name] = accuracy(fit(X, y, epochs)(X_test), y_test)
    for name, score in scores.items():
        check(f"accuracies of {name} and of the loop", score, base, 0.1 if report.quick else 0.05)
    contenders = {
        "torch loop": lambda: loop_fit(plain_mlp(), inputs, targets, epochs),
        "skuq": lambda: skuq_classifier(max_epochs=epochs).fit(X, y),
        **{name: lambda fit=fit: fit(X, y, epochs) for name, fit in others.items()},
    }
    bars = [
        Bar("skuq", "torch loop", 1.15),
        Bar("skuq", "scikit-learn MLPClassifier, float32", 1),
    ]
    slow = set(others) - {"scikit-learn MLPClassifier, float32"}
    report.time(table, contenders, bars, slow)


def _check_same_weights(X: np.ndarray, y: np.ndarray) -> None:
    """An epoch without shuffling, from the same beginning."""
    module = seeded(plain_mlp)
    ours = skuq_classifier(module, iterator_train__shuffle=False).fit(X, y)
    by_hand = loop_fit(module(), *tensors(X, y), shuffle=False)
    check(
        "weights after an epoch without shuffling, of skuq and of the loop,",
        nn.utils.parameters_to_vector(ours.module_.parameters()).detach(),
        nn.utils.parameters_to_vector(by_hand.parameters()).detach(),
        1e-4,
    )


def fit_conv(report: Report) -> None:
    n_rows = report.sized(10_000, 600)
    table = f"fit, conv net, batch 128, {n_rows:,} images of 28 × 28, 1 epoch"
    X, y = image_data(n_rows)
    inputs, targets = tensors(X, y)
    check_conv(X[:1000], y[:1000])
    X_test, y_test = image_data(1000, seed=1)

    def ours() -> object:
        return skuq_classifier(ConvNet, batch_size=IMAGE_BATCH).fit(X, y)

    def by_hand() -> nn.Module:
        return loop_fit(ConvNet(), inputs, targets, batch=IMAGE_BATCH)

    check(
        "accuracies of skuq and of the loop",
        ours().score(X_test, y_test),
        accuracy(loop_proba(by_hand(), *tensors(X_test), IMAGE_SLICE), y_test),
        0.3 if report.quick else 0.05,
    )
    contenders = {"torch loop, default memory format": by_hand, "skuq": ours}
    report.time(table, contenders, [Bar("skuq", "torch loop, default memory format", 0.80)])


def check_conv(X: np.ndarray, y: np.ndarray) -> None:
    """Without dropout and shuffling, skuq and the loop must learn the same function."""

    def factory(n_outputs: int) -> nn.Module:
        return ConvNet(n_outputs, dropout=0.0)

    module = seeded(factory)
    settings = {"batch_size": IMAGE_BATCH, "iterator_train__shuffle": False}
    ours = skuq_classifier(module, **settings).fit(X, y)
    by_hand = loop_fit(module(), *tensors(X, y), batch=IMAGE_BATCH, shuffle=False)
    check(
        "probabilities after an epoch without dropout and shuffling, of skuq and of the loop,",
        ours.predict_proba(X),
        loop_proba(by_hand, *tensors(X), IMAGE_SLICE),
        0.01,
    )


class DoesNothing(Callback):
    """A callback that listens to batches and epochs."""

    def on_batch_end(self, net: object, **kwargs: object) -> None:
        pass

    def on_epoch_end(self, net: object, **kwargs: object) -> None:
        pass


def callback(report: Report) -> None:
    n_rows = report.sized(10_000, 2000)
    X, y = table_data(n_rows)

    def fitted(**parameters: object) -> np.ndarray:
        network = skuq_classifier(max_epochs=3, **parameters).fit(X, y)
        return nn.utils.parameters_to_vector(network.module_.parameters()).detach().numpy()

    check("weights with and without the callback", fitted(callbacks=[DoesNothing()]), fitted(), 0)
    contenders = {
        "skuq": fitted,
        "skuq, a callback that does nothing": lambda: fitted(callbacks=[DoesNothing()]),
    }
    bars = [Bar("skuq, a callback that does nothing", "skuq", 1.05)]
    report.time(f"fit with a callback, {n_rows:,} rows × 3 epochs", contenders, bars)


_IMPORT = """
import time, torch, skorch, sklearn
start = time.perf_counter()
import skuq
print(time.perf_counter() - start)
"""


def importing(report: Report) -> None:
    table = "import skuq, after torch, skorch and sklearn"
    command = [sys.executable, "-c", _IMPORT]
    seconds = [
        float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        for _ in range(report.repeats + 1)
    ][1:]  # the first one may compile
    spread = median_and_quartiles(seconds)
    report.seconds(table, "import skuq", spread, limit=0.15)
