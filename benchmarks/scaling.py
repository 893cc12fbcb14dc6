"""Curves: time and extra memory of skuq against rows, draws, members, classes and width.

Times are medians of few calls, memory is that of one call, in a process for each curve.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.harness import Curve, Report
from benchmarks.memory import extra_memories
from benchmarks.models import IMAGE_BATCH, ConvNet, image_data, logits_and_labels, skuq_classifier
from skuq.calibration import fit_temperature
from skuq.metrics import expected_calibration_error
from skuq.modules import MLP
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate, Posterior

Call = Callable[[], Any]
Prepare = Callable[[int], Call]

CALLS, SECONDS = 5, 1.0  # calls of one size: so many, or fewer where they take longer together

# ---------------------------------------------------------------------------------------------
# What is measured: functions of sizes that return a call


def rows_of_all_classes(n_rows: int, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(0).normal(size=(n_rows, 20)).astype(np.float32)
    return X, np.arange(n_rows) % n_classes


def mlp(posterior: Posterior, width: int = 100) -> Any:
    return skuq_classifier(MLP, posterior=posterior, module__hidden_layer_sizes=(width, width))


def fit(n_rows: int = 5000, n_classes: int = 10, width: int = 100, n_members: int = 0) -> Call:
    X, y = rows_of_all_classes(n_rows, n_classes)
    posterior = DeepEnsemble(n_members) if n_members else PointEstimate()
    mlp(posterior, width).fit(X[: 2 * n_classes], y[: 2 * n_classes])  # first calls allocate more
    return lambda: mlp(posterior, width).fit(X, y)


def predict(n_rows: int = 5000, n_members: int = 0) -> Call:
    X, y = rows_of_all_classes(n_rows, 10)
    posterior = DeepEnsemble(n_members) if n_members else PointEstimate()
    ours = mlp(posterior).fit(X[:200], y[:200])
    ours.predict_proba(X[:200])
    return lambda: ours.predict_proba(X)


def dropout_mlp(
    n_rows: int = 1000, n_draws: int = 10, n_classes: int = 10, width: int = 100
) -> Call:
    X, y = rows_of_all_classes(max(n_rows, 2 * n_classes), n_classes)
    ours = mlp(MCDropout(n_draws), width).fit(X[: 2 * n_classes], y[: 2 * n_classes])
    ours.predict_uncertainty(X[:200], kind="all")
    return lambda: ours.predict_uncertainty(X[:n_rows], kind="all")


def dropout_conv(n_draws: int) -> Call:
    X, y = image_data(500)
    settings = {"batch_size": IMAGE_BATCH, "posterior": MCDropout(n_draws)}
    ours = skuq_classifier(ConvNet, **settings).fit(X, y)
    ours.predict_uncertainty(X[:200], kind="all")
    return lambda: ours.predict_uncertainty(X, kind="all")


def temperature(n_rows: int = 20_000, n_classes: int = 10) -> Call:
    logits, y = logits_and_labels(n_rows, n_classes)
    fit_temperature(logits[:200], y[:200])
    return lambda: fit_temperature(logits, y)


def calibration_error(n_rows: int = 20_000, n_classes: int = 10) -> Call:
    logits, y = logits_and_labels(n_rows, n_classes)
    y[:n_classes] = np.arange(n_classes)  # the columns are those of the labels that are there
    proba = torch.from_numpy(logits).double().softmax(1).numpy()
    expected_calibration_error(np.arange(200) % 2, np.full(200, 0.5))
    return lambda: expected_calibration_error(y, proba)


# ---------------------------------------------------------------------------------------------
# The curves


def sized(function: Callable[..., Call], what: str, **others: int) -> Prepare:
    """The function of one of its sizes; it can be sent to another process."""
    return functools.partial(_prepared, function, what, others)


def _prepared(function: Callable[..., Call], what: str, others: dict[str, int], size: int) -> Call:
    return function(**{what: size, **others})


ALONG: dict[str, tuple[list[int], dict[str, Prepare]]] = {
    "rows": (
        [1000, 10_000, 100_000, 1_000_000],
        {
            "fit, one epoch": sized(fit, "n_rows"),
            "predict_proba": sized(predict, "n_rows"),
            "MC dropout, 10 draws": sized(dropout_mlp, "n_rows"),
            "fit_temperature": sized(temperature, "n_rows"),
            "calibration error": sized(calibration_error, "n_rows"),
        },
    ),
    "draws": (
        [1, 3, 10, 30, 100, 300, 1000],
        {
            "MLP, dropout in every layer, 1,000 rows": sized(dropout_mlp, "n_draws"),
            "conv net, dropout in its head, 500 images": sized(dropout_conv, "n_draws"),
        },
    ),
    "members": (
        [1, 3, 10, 30, 100],
        {
            "fit, 2,000 rows, one epoch": sized(fit, "n_members", n_rows=2000),
            "predict_proba, 5,000 rows": sized(predict, "n_members"),
        },
    ),
    "classes": (
        [2, 10, 30, 100, 300, 1000],
        {
            "fit, 5,000 rows, one epoch": sized(fit, "n_classes"),
            "MC dropout, 10 draws, 1,000 rows": sized(dropout_mlp, "n_classes"),
            "fit_temperature, 20,000 rows": sized(temperature, "n_classes"),
            "calibration error, 20,000 rows": sized(calibration_error, "n_classes"),
        },
    ),
    "width": (
        [16, 64, 256, 1024],
        {
            "fit, 5,000 rows, one epoch": sized(fit, "width"),
            "MC dropout, 10 draws, 1,000 rows": sized(dropout_mlp, "width"),
        },
    ),
}


def measure(along: str, report: Report) -> None:
    sizes, series = ALONG[along]
    if report.quick:
        sizes = sizes[:2]
    for name, prepare in series.items():
        seconds = [seconds_of(prepare(size)) for size in sizes]
        mebibytes = extra_memories(prepare, [(size,) for size in sizes])
        for amounts, unit in ((seconds, "s"), (mebibytes, "MiB")):
            curve = Curve(along, name, sizes, amounts, unit)
            report.curves.append(curve)
            print(f"{name}: {amounts} {unit}, exponent {curve.exponent}", flush=True)


def seconds_of(call: Call) -> float:
    """Without a warm-up: who prepared the call made a small one already."""
    times: list[float] = []
    while len(times) < CALLS and sum(times) < SECONDS:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


CURVES = {f"curves-{along}": functools.partial(measure, along) for along in ALONG}
