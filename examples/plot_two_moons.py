"""Two moons: which uncertainty is which.

An ensemble of ten networks learns to tell two noisy half-moons apart. Where the moons overlap, all
networks hesitate: the aleatoric part is large, and more data would not change it. Where no data fix
the border, the networks draw it in different places: the epistemic part is large. Far from the data
but on one side of every network's border, both parts are small: an ensemble does not recognise
everything strange.

Takes a few seconds. The README's picture is made by
``python examples/plot_two_moons.py docs/two_moons.png``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import make_moons

from skuq import TorchClassifier
from skuq.posteriors import DeepEnsemble

OUTPUT = Path(__file__).resolve().parent / "output" / "two_moons.png"
POINTS = {"A": (-1.0, 0.5), "B": (0.5, 0.25), "C": (-1.5, -2.5)}
LEFT, RIGHT, BOTTOM, TOP = -2.5, 3.5, -3.0, 2.5


def fit(X: np.ndarray, y: np.ndarray) -> TorchClassifier:
    posterior = DeepEnsemble(n_members=10, bootstrap=True)
    return TorchClassifier(posterior=posterior, lr=0.01, max_epochs=50, random_state=0).fit(X, y)


def draw(classifier: TorchClassifier, X: np.ndarray, y: np.ndarray, path: Path) -> None:
    axes_of_grid = np.linspace(LEFT, RIGHT, 141), np.linspace(BOTTOM, TOP, 141)
    grid = np.stack(np.meshgrid(*axes_of_grid), axis=-1)
    parts = classifier.predict_uncertainty(grid.reshape(-1, 2), kind="all")
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.7), sharey=True, layout="constrained")
    levels = np.linspace(0, np.log(2), 11)
    for ax, kind in zip(axes, ("aleatoric", "epistemic")):
        values = getattr(parts, kind).reshape(grid.shape[:2]).clip(0, levels[-1])
        colors = ax.contourf(*axes_of_grid, values, levels, cmap="Blues")
        for label, color in ((0, "#f0a030"), (1, "black")):
            ax.plot(*X[y == label].T, ".", color=color, ms=2.5)
        for name, point in POINTS.items():
            ax.plot(*point, "o", ms=13, mfc="white", mec="black")
            ax.text(*point, name, ha="center", va="center", fontsize=9)
        ax.set(title=kind, xlim=(LEFT, RIGHT), ylim=(BOTTOM, TOP), aspect="equal")
        ax.set(xticks=[], yticks=[])
    figure.colorbar(colors, ax=axes, label="nats", ticks=[0, 0.2, 0.4, 0.6])
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main(path: Path = OUTPUT) -> None:
    torch.set_num_threads(1)  # networks as small as these train fastest so
    X, y = make_moons(400, noise=0.25, random_state=0)
    classifier = fit(X, y)
    points = np.array(list(POINTS.values()))
    print(classifier.predict_proba(points).round(2))
    parts = classifier.predict_uncertainty(points, kind="all")
    print("aleatoric", parts.aleatoric.round(2), "epistemic", parts.epistemic.round(2))
    draw(classifier, X, y, path)
    print(os.path.relpath(path))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
