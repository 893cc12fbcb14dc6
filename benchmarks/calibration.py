"""Calibration: the temperature, and the expected calibration error."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.calibration import _TemperatureScaling
from torch import Tensor

from benchmarks import peers
from benchmarks.harness import Bar, Report, check
from benchmarks.models import logits_and_labels, tensors
from skuq.calibration import fit_temperature
from skuq.metrics import expected_calibration_error

N_BINS = 15
BLOCK = 2**16


def temperature_scikit_learn(logits: np.ndarray, y: np.ndarray) -> float:
    return 1 / float(_TemperatureScaling().fit(logits, y).beta_)


def temperature_few_classes(report: Report) -> None:
    _temperature(report, report.sized(1_000_000, 20_000), 10, passes=2)


def temperature_many_classes(report: Report) -> None:
    _temperature(report, report.sized(100_000, 5000), 100, passes=10)


def _temperature(report: Report, n_rows: int, n_classes: int, passes: float) -> None:
    table = f"temperature, {n_rows:,} × {n_classes} logits in float32"
    logits, y = logits_and_labels(n_rows, n_classes)
    (inputs,) = tensors(logits)
    fits = {
        "skuq": fit_temperature,
        "scikit-learn": temperature_scikit_learn,
        **peers.present(report, table, peers.TEMPERATURES),
    }
    best = reference_temperature(logits, y)
    lowest = negative_log_likelihood(logits, y, best)
    for name, fit in fits.items():
        found = fit(logits, y)
        excess = max(0.0, negative_log_likelihood(logits, y, found) - lowest)
        check(f"temperature of {name} and the reference", found, best, 0.05 * best)
        report.remark(table, f"{name}: T = {found:.6f}, excess NLL {excess:.1e} nats")
        if name == "skuq":
            report.goal(table, "excess NLL of skuq", (excess,) * 3, 1e-12, "nats")
    contenders = {
        "one softmax pass": lambda: inputs.softmax(1),
        **{name: lambda fit=fit: fit(logits, y) for name, fit in fits.items()},
    }
    bars = [Bar("skuq", "one softmax pass", passes), Bar("skuq", "scikit-learn", 0.1)]
    report.time(table, contenders, bars, slow=set(fits) - {"skuq", "scikit-learn"})


def reference_temperature(logits: np.ndarray, y: np.ndarray) -> float:
    """The optimum in float64, by Newton's method in 1/T until steps are rounding."""
    beta = 1.0
    for _ in range(50):
        slope = curvature = 0.0
        for z, of_label in _blocks(logits, y):
            p = (beta * z).softmax(1)
            mean = (p * z).sum(1)
            slope += float((mean - of_label).sum())
            curvature += float((p * (z - mean[:, None]).square()).sum())
        step = slope / curvature
        beta = beta - step if step < beta else beta / 2
        if abs(step) <= 1e-14 * beta:
            break
    return 1 / beta


def negative_log_likelihood(logits: np.ndarray, y: np.ndarray, temperature: float) -> float:
    """The mean over rows, in float64."""
    total = 0.0
    for z, of_label in _blocks(logits, y):
        total += float(((z / temperature).logsumexp(1) - of_label / temperature).sum())
    return total / len(y)


def _blocks(logits: np.ndarray, y: np.ndarray) -> list[tuple[Tensor, Tensor]]:
    inputs, labels = tensors(logits, y)
    pairs = zip(inputs.split(BLOCK), labels.split(BLOCK))
    return ((z.double(), z.gather(1, k[:, None])[:, 0].double()) for z, k in pairs)


# ---------------------------------------------------------------------------------------------
# Expected calibration error


def max_and_bincount(y: Tensor, proba: Tensor) -> float:
    """One pass over blocks of rows: the largest probability, its bin, and three counts."""
    count, confidence, right = torch.zeros(3, N_BINS, dtype=torch.float64)
    for labels, rows in zip(y.split(BLOCK), proba.split(BLOCK)):
        top, chosen = rows.max(1)
        index = (top * N_BINS).long().clamp_(max=N_BINS - 1)
        count += torch.bincount(index, minlength=N_BINS)
        confidence += torch.bincount(index, top, N_BINS)
        right += torch.bincount(index[chosen == labels], minlength=N_BINS)
    return float((confidence - right).abs().sum() / count.sum())


def error_float32(report: Report) -> None:
    _error(report, torch.float32)


def error_float64(report: Report) -> None:
    _error(report, torch.float64)


def _error(report: Report, dtype: torch.dtype) -> None:
    n_rows, n_classes = report.sized(1_000_000, 20_000), 10
    kind = str(dtype).removeprefix("torch.")
    table = f"expected calibration error, {n_rows:,} × {n_classes} probabilities in {kind}"
    logits, y = logits_and_labels(n_rows, n_classes)
    rows = torch.from_numpy(logits).softmax(1).to(dtype)
    rows /= rows.sum(1, keepdim=True)
    proba, (labels,) = rows.numpy(), tensors(y)
    errors = {
        "skuq": lambda y, proba: expected_calibration_error(y, proba, n_bins=N_BINS),
        **peers.present(report, table, peers.ERRORS),
    }
    expected = max_and_bincount(labels, rows)
    for name, error in errors.items():
        # Others sum a million numbers in float32.
        tolerance = 1e-4 if name == "skuq" else 1e-3
        check(f"errors of {name} and of counts", error(y, proba), expected, tolerance)
    base = "max + bincount, in blocks"
    contenders = {
        base: lambda: max_and_bincount(labels, rows),
        **{name: lambda error=error: error(y, proba) for name, error in errors.items()},
    }
    report.time(table, contenders, [Bar("skuq", base, 1.1)])
