"""Pictures of the curves: one file for each quantity that is varied, time beside memory.

    python -m benchmarks.figures NUMBERS.json FOLDER [png]

draws those of a run that wrote its numbers.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import Curve

LABELS = {"s": "time (s)", "MiB": "extra memory (MiB)"}
XLABELS = {
    "rows": "rows",
    "draws": "draws of MC dropout",
    "members": "members of the ensemble",
    "classes": "classes",
    "width": "units of each hidden layer",
}
MARKERS = "osD^v"


def draw(curves: Sequence[Curve], folder: Path, kind: str = "svg") -> list[Path]:
    """Write `curves-<along>.svg`, or of another kind, for each; returns the files."""
    import matplotlib

    matplotlib.use("Agg")
    # Without a date and with fixed names, pictures of the same numbers are the same files.
    matplotlib.rcParams["svg.hashsalt"] = "skuq"
    from matplotlib import pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for along in dict.fromkeys(curve.along for curve in curves):
        figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
        mine = [curve for curve in curves if curve.along == along]
        for ax, unit in zip(axes, LABELS):
            _panel(ax, [curve for curve in mine if curve.unit == unit], unit)
        handles, names = axes[0].get_legend_handles_labels()
        labels = [f"{name}: {_exponents(mine, name)}" for name in names]
        figure.legend(
            handles,
            labels,
            title="with the exponents of time and of memory, of the upper half of the sizes",
            loc="outside lower center",
            ncols=2,
            frameon=False,
        )
        path = folder / f"curves-{along}.{kind}"
        figure.savefig(path, metadata={"Date": None} if kind == "svg" else None)
        plt.close(figure)
        written.append(path)
    return written


def _panel(ax: Any, curves: Sequence[Curve], unit: str) -> None:
    for curve, marker in zip(curves, MARKERS):
        # A call that needed nothing beyond what was there has no place on a logarithmic axis.
        points = [(size, a) for size, a in zip(curve.sizes, curve.amounts) if a > 0]
        ax.loglog(*zip(*points), marker=marker, label=curve.series)
    sizes = curves[0].sizes
    ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
    ax.minorticks_off()
    low, high = ax.get_ylim()
    ax.set_ylim(10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high)))
    ax.set_xlabel(XLABELS[curves[0].along])
    ax.set_ylabel(LABELS[unit])
    ax.grid(True, which="major", alpha=0.3)


def _exponents(curves: Sequence[Curve], series: str) -> str:
    found = [curve.exponent for curve in curves if curve.series == series]
    return ", ".join("–" if value is None else f"{round(value, 2) + 0:.2f}" for value in found)


def main() -> None:
    numbers, folder, *kind = sys.argv[1:]
    curves = json.loads(Path(numbers).read_text())["curves"]
    draw([Curve(*(c[name] for name in Curve._fields)) for c in curves], Path(folder), *kind)


if __name__ == "__main__":
    main()
