"""
A curve with a gap in the data, under every posterior
=====================================================

Where does each posterior say that it does not know? y = 2 sin(1.5 x) + 0.2 ε, with data only where
1.5 < abs(x) < 4. The bands are the epistemic deviation. It should be small at the data, larger in
the gap, and largest far outside. Takes about half a minute.

``python examples/plot_posteriors.py docs/posteriors.png`` writes the picture of the documentation.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
import torch

from skuq import TorchRegressor
from skuq.likelihoods import Gaussian
from skuq.posteriors import (
    SGMCMC,
    SWAG,
    DeepEnsemble,
    LastLayerLaplace,
    MCDropout,
    SnapshotEnsemble,
    Variational,
)

torch.set_num_threads(1)  # networks as small as this one train fastest so
DARK, LIGHT = "#0b4f8a", "#f0a030"  # told apart by colour-blind readers and in greyscale
SIGMA, INNER, OUTER, FAR = 0.2, 1.5, 4.0, 6.0

# %%
# The data
# --------


def curve(x):
    return 2 * np.sin(1.5 * x)


random = np.random.default_rng(0)
x = random.uniform(INNER, OUTER, 120) * random.choice([-1, 1], 120)
X, y = x[:, None], curve(x) + SIGMA * random.standard_normal(120)

# %%
# All posteriors
# --------------
# The same network and training for all; only `MCDropout` has dropout in it. The table gives the
# mean epistemic deviation at the data, in the gap and far outside, and how often the band mean ±
# 1.645 total deviations holds the true curve in the gap.

POSTERIORS = [
    MCDropout(), DeepEnsemble(), LastLayerLaplace(), SWAG(), SWAG(n_members=5), SnapshotEnsemble(),
    SGMCMC(), Variational(),
]  # fmt: skip
x = np.linspace(-FAR, FAR, 241)
size = np.abs(x)
places = (size > INNER) & (size < OUTER), size < INNER, size > 5

models = {}
print(f"{'epistemic deviation':<22}{'data':>10}{'gap':>10}{'|x| > 5':>10}{'holds in gap':>14}")
for posterior in POSTERIORS:
    models[str(posterior)] = model = TorchRegressor(
        posterior=posterior,
        likelihood=Gaussian(),
        module__hidden_layer_sizes=(50, 50),
        module__dropout=0.05 if isinstance(posterior, MCDropout) else 0.0,
        lr=3e-3,
        max_epochs=400,
        batch_size=32,
        device="cpu",
        random_state=0,
    ).fit(X, y)
    parts = model.predict_uncertainty(x[:, None], kind="all")
    total, epistemic = np.sqrt(parts.total), np.sqrt(parts.epistemic)
    holds = np.abs(model.predict(x[:, None]) - curve(x)) < 1.645 * total
    values = "".join(f"{epistemic[place].mean():>10.3f}" for place in places)
    print(f"{posterior!s:<22}{values}{holds[places[1]].mean():>14.0%}", flush=True)

# %%
# How to read it
# --------------
# Dots are the data, dashes the true curve. A good posterior has a band that opens where the dots
# end.

figure, axes = plt.subplots(2, 4, figsize=(13, 6), sharex=True, sharey=True, layout="constrained")
for ax, (name, model) in zip(axes.flat, models.items()):
    mean = model.predict(x[:, None])
    std = np.sqrt(model.predict_uncertainty(x[:, None], kind="epistemic"))
    ax.fill_between(x, mean - 2 * std, mean + 2 * std, color=LIGHT, alpha=0.6, lw=0)
    ax.plot(x, curve(x), "k--", lw=1)
    ax.plot(x, mean, color=DARK, lw=2)
    ax.plot(X[:, 0], y, ".", color="0.3", ms=3)
    ax.set(title=name, ylim=(-6, 6), xlim=(-FAR, FAR))
figure.supxlabel("x; the bands are the mean ± 2 epistemic deviations, dashes the true curve")
figure.set_label(
    "Eight panels, one for each posterior: a curve through two groups of points, with bands that "
    "open, more or less, in the gap between the groups and outside of them."
)

if sys.argv[1:]:
    figure.savefig(sys.argv[1], dpi=80)
else:
    plt.show()
