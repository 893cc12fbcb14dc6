"""The tables of `benchmarks.calibration_outputs`, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.quality_runs import spread

Results = dict[str, list[dict[str, Any]]]  # network: for each half {rows: {method: {measure: v}}}

DIGITS = {"NLL": 4, "ECE": 4, "Brier": 4, "classwise": 5, "accuracy": 4, "seconds": 2}
OURS = "`MatrixScaler`"


def tables(results: Results, public: Sequence[str], rows: Sequence[int], methods: list[str]) -> str:
    """All tables: measures of groups, then paired differences of each network."""
    groups = {
        "nine networks on CIFAR-10": [n for n in public if "cifar-100" not in n],
        "DenseNet-BC-100 on CIFAR-100": [n for n in public if "cifar-100" in n],
        "six other classifiers": [name for name in results if name not in public],
    }
    parts = []
    for group, names in groups.items():
        known = [name for name in names if name in results]
        if known:
            parts += [measures(f"{group}, {n:,} rows", known, results, n, methods) for n in rows]
    others = [method for method in methods if method not in (OURS, "uncalibrated")]
    parts += [differences(results, n, others) for n in rows]
    return "\n\n".join(parts)


def in_halves(
    halves: Sequence[dict[str, Any]], rows: int, method: str, measure: str
) -> list[float]:
    """The measure in the halves, of which the slow methods have only the first."""
    return [half[str(rows)][method][measure] for half in halves if method in half[str(rows)]]


def measures(
    title: str, names: Sequence[str], results: Results, rows: int, methods: list[str]
) -> str:
    """A row for each method; in each half, the mean over networks."""
    lines = [f"| {title} | halves | {' | '.join(DIGITS)} |", f"|---|---|{'---|' * len(DIGITS)}"]
    for method in methods:
        cells = []
        for measure, digits in DIGITS.items():
            halves = zip(*(in_halves(results[name], rows, method, measure) for name in names))
            values = [np.mean(half) for half in halves]
            cells.append(spread(values, digits))
        lines.append(f"| {method} | {len(values)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def differences(results: Results, rows: int, others: list[str]) -> str:
    """NLL of `MatrixScaler` less that of others on the same half, in thousandths of a nat."""
    lines = [
        f"| {rows:,} rows: `MatrixScaler` less | {' | '.join(others)} |",
        f"|---|{'---|' * len(others)}",
    ]
    for name, halves in results.items():
        cells = []
        for other in others:
            pairs = zip(*(in_halves(halves, rows, method, "NLL") for method in (OURS, other)))
            values = [1000 * (ours - theirs) for ours, theirs in pairs]
            cells.append(spread(values, 1))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
