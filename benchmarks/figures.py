"""Pictures of the curves: one file for each quantity that is varied, time beside memory."""

from __future__ import annotations

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


def draw(curves: Sequence[Curve], folder: Path) -> list[Path]:
    """Write `curves-<along>.svg` for each; returns the files."""
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
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
        path = folder / f"curves-{along}.svg"
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
        written.append(path)
    return written


def _panel(ax: Any, curves: Sequence[Curve], unit: str) -> None:
    for curve, marker in zip(curves, MARKERS):
        # A call that needed nothing beyond what was there has no place on a logarithmic axis.
        points = [(size, a) for size, a in zip(curve.sizes, curve.amounts) if a > 0]
        (line,) = ax.loglog(*zip(*points), marker=marker, label=curve.series)
        if curve.exponent is not None:
            ax.annotate(
                f"{curve.exponent:.2f}",
                points[-1],
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                color=line.get_color(),
            )
    ax.margins(x=0.12)
    ax.set_xlabel(XLABELS[curves[0].along])
    ax.set_ylabel(LABELS[unit])
    ax.grid(True, which="major", alpha=0.3)
