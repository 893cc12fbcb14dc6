"""
Two moons: which uncertainty is which
=====================================

An ensemble of ten networks learns to tell two noisy half-moons apart. Where the moons overlap, all
networks hesitate: the aleatoric part is large, and more data would not change it. Where no data fix
the border, the networks draw it in different places: the epistemic part is large.

Takes a few seconds. ``python examples/plot_two_moons.py docs/two_moons.png`` makes the picture of
the README.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import make_moons

from skuq import TorchClassifier
from skuq.posteriors import DeepEnsemble

torch.set_num_threads(1)  # networks as small as these train fastest so

# %%
# The ensemble
# ------------
# Each member learns from rows of its own, drawn with replacement.

X, y = make_moons(400, noise=0.25, random_state=0)
posterior = DeepEnsemble(n_members=10, bootstrap=True)
classifier = TorchClassifier(posterior=posterior, lr=0.01, max_epochs=50, random_state=0).fit(X, y)

# %%
# Three points
# ------------
# A lies among the rows of one class, B where the classes overlap, and C far from all rows, on the
# border as it goes on. The answer at A is certain. At B it is not, and no amount of data would
# help; at C it is not, and data would settle it.

POINTS = {"A": (-1.0, 0.5), "B": (0.5, 0.25), "C": (-1.5, -2.5)}
points = np.array(list(POINTS.values()))
print(classifier.predict_proba(points).round(2))
parts = classifier.predict_uncertainty(points, kind="all")
print("aleatoric", parts.aleatoric.round(2), "epistemic", parts.epistemic.round(2))

# %%
# The whole plane
# ---------------
# Far from the data but on one side of every network's border, both parts are small: an ensemble
# does not recognise everything strange. A :class:`~skuq.novelty.NoveltyDetector` looks for that.

x_axis, y_axis = np.linspace(-2.5, 3.5, 141), np.linspace(-3.0, 2.5, 141)
grid = np.stack(np.meshgrid(x_axis, y_axis), axis=-1)
parts = classifier.predict_uncertainty(grid.reshape(-1, 2), kind="all")
levels = np.linspace(0, np.log(2), 11)

figure, axes = plt.subplots(1, 2, figsize=(8, 3.7), sharey=True, layout="constrained")
for ax, kind in zip(axes, ("aleatoric", "epistemic")):
    values = getattr(parts, kind).reshape(grid.shape[:2]).clip(0, levels[-1])
    colors = ax.contourf(x_axis, y_axis, values, levels, cmap="Blues")
    for label, color in ((0, "#f0a030"), (1, "black")):
        ax.plot(*X[y == label].T, ".", color=color, ms=2.5)
    for name, point in POINTS.items():
        ax.plot(*point, "o", ms=13, mfc="white", mec="black")
        ax.text(*point, name, ha="center", va="center", fontsize=9)
    ax.set(title=kind, xlim=x_axis[[0, -1]], ylim=y_axis[[0, -1]], aspect="equal")
    ax.set(xticks=[], yticks=[])
figure.colorbar(colors, ax=axes, label="nats", ticks=[0, 0.2, 0.4, 0.6])
figure.set_label(
    "Two maps of the plane with two half-moons of points. The aleatoric part is dark where the "
    "moons overlap, the epistemic part along the border far from the points."
)

if sys.argv[1:]:
    figure.savefig(sys.argv[1], dpi=100)
else:
    plt.show()
