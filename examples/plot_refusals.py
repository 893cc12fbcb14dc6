"""Refusing with a guarantee: who is refused, and the certified point of a risk–coverage curve.

A network reads digits. Where it is unsure it may say no, so that among the answers at most 2 % are
wrong. Takes about ten seconds.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split

from skuq import TorchClassifier
from skuq.metrics import risk_coverage_curve
from skuq.posteriors import DeepEnsemble
from skuq.selective import Refusals, SelectiveClassifier

OUTPUT = Path(__file__).resolve().parent / "output"
TARGET = 0.02
METHODS = {"fixed sequence": "fixed_sequence", "SGR": "sgr", "expected joint risk": "crc"}


def main() -> None:
    torch.set_num_threads(1)  # the networks are small
    OUTPUT.mkdir(exist_ok=True)
    X, y = load_digits(return_X_y=True)
    X_train, X_rest, y_train, y_rest = train_test_split(X / 16, y, train_size=300, random_state=0)
    X_choose, X_new, y_choose, y_new = train_test_split(
        X_rest, y_rest, test_size=0.5, random_state=0
    )
    network = TorchClassifier(posterior=DeepEnsemble(), max_epochs=30, lr=5e-3, random_state=0).fit(
        X_train, y_train
    )

    columns = f"{'certified':>10}{'coverage':>10}{'risk':>8}{'bound':>8}"
    print(f"{'':22}{columns}{'new: coverage':>15}{'risk':>8}")
    found = {}
    for name, method in METHODS.items():
        selective = SelectiveClassifier(
            FrozenEstimator(network), target_risk=TARGET, method=method
        ).fit(X_choose, y_choose)
        new = selective.report(X_new, y_new).overall
        found[name] = selective
        print(
            f"{name:22}{selective.certified_!s:>10}{selective.coverage_:10.3f}"
            f"{selective.risk_:8.4f}{selective.bound_:8.4f}{1 - new.refused:15.3f}{new.risk:8.4f}"
        )
    refusals = found["fixed sequence"].report(X_new, y_new)
    print(f"\nNew rows, by true digit:\n{refusals}")

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    draw_curve(left, found, network, X_choose, y_choose)
    draw_classes(right, refusals)
    figure.savefig(OUTPUT / "refusals.png", dpi=150)
    plt.close(figure)
    print(f"\npicture: {OUTPUT / 'refusals.png'}")


def draw_curve(
    ax: Axes,
    found: dict[str, SelectiveClassifier],
    network: TorchClassifier,
    X: np.ndarray,
    y: np.ndarray,
) -> None:
    """Draw risk against coverage on the calibration rows, and the thresholds of the methods."""
    curve = risk_coverage_curve(y, network.predict(X), network.predict_uncertainty(X))
    ax.plot(curve.coverage, curve.risk, color="0.3", label="calibration rows")
    ax.axhline(TARGET, color="tab:red", linestyle=":", label=f"target, {TARGET:.0%}")
    for (name, selective), marker in zip(found.items(), "osD"):
        ax.plot(selective.coverage_, selective.risk_, marker, markersize=9, label=name)
    best = found["fixed sequence"]
    ax.annotate(
        "certified:\nrisk of new rows ≤ 2 %,\n95 % sure",
        (best.coverage_, best.risk_),
        xytext=(0.3, 0.028),
        arrowprops={"arrowstyle": "->", "color": "0.3"},
    )
    ax.set(xlabel="coverage: share that is answered", ylabel="risk: share of wrong answers")
    ax.set(xlim=(0, 1.02), ylim=(0, None), title="A threshold that holds its promise")
    ax.legend(loc="upper left")


def draw_classes(ax: Axes, refusals: Refusals) -> None:
    """Draw the share that is refused, for each true digit, with 95 % intervals."""
    names, rates = list(refusals.by_class), list(refusals.by_class.values())
    refused = np.array([rate.refused for rate in rates])
    low, high = (np.array([getattr(r, f"refused_{end}") for r in rates]) for end in ("low", "high"))
    errors = np.clip([refused - low, high - refused], 0, None)
    ax.bar(names, refused, color="tab:blue", alpha=0.6, yerr=errors, capsize=3)
    ax.axhline(refusals.overall.refused, color="0.3", linestyle=":", label="all")
    ax.set(xlabel="true digit", ylabel="share that is refused", title="Who is refused")
    ax.set_xticks(names)
    ax.legend()


if __name__ == "__main__":
    main()
