"""
Conformal intervals by MAPIE around a network
=============================================

skuq's own intervals are as good as the fit. Split conformal prediction widens or narrows them by
what it sees on rows kept apart, and holds its level on average over x. With scores in units of the
predicted standard deviation, intervals stay narrow where there is little noise. Needs the extra
``conformal``; takes about ten seconds.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
import torch
from mapie.conformity_scores import StdConformityScore
from mapie.regression import SplitConformalRegressor

from skuq import TorchRegressor
from skuq.metrics import mean_interval_width, prediction_interval_coverage
from skuq.posteriors import DeepEnsemble

torch.set_num_threads(1)  # the networks are small
LEVEL = 0.9

# %%
# Noise that grows
# ----------------
# The noise is small at the left and large at the right.


def make_data(n_samples, seed):
    random = np.random.default_rng(seed)
    x = random.uniform(-2, 2, n_samples)
    return x[:, None], np.sin(2 * x) + random.normal(size=n_samples) * (0.05 + 0.25 * (x + 2))


X, y = make_data(300, 0)
X_apart, y_apart = make_data(300, 1)
X_test, y_test = make_data(4000, 2)
network = TorchRegressor(
    posterior=DeepEnsemble(n_members=3), module__dropout=0.0, max_epochs=200, lr=0.01,
    random_state=0,
).fit(X, y)  # fmt: skip

# %%
# Three kinds of intervals
# ------------------------
# MAPIE takes the fitted network as it is. ``StdConformityScore`` asks it for its predicted standard
# deviation.


def conformal(score, X):
    wrapped = SplitConformalRegressor(
        network, confidence_level=LEVEL, conformity_score=score, prefit=True
    )
    return wrapped.conformalize(X_apart, y_apart).predict_interval(X)[1][..., 0]


methods = {
    "network alone": lambda X: network.predict_interval(X, LEVEL),
    "conformal, |error|": lambda X: conformal("absolute", X),
    "conformal, |error| / std": lambda X: conformal(StdConformityScore(), X),
}

# %%
# Intervals that hold 90 % of all y need not hold 90 % in each half: those of one width hold too
# much where the noise is small, and too little where it is large.

halves = X_test[:, 0] < 0, X_test[:, 0] >= 0
print(f"{'':26}{'held':>8}{'quiet':>8}{'noisy':>8}{'width':>8}")
for name, interval_of in methods.items():
    interval = interval_of(X_test)
    held = [prediction_interval_coverage(y_test, interval)]
    held += [prediction_interval_coverage(y_test[h], interval[h]) for h in halves]
    columns = "".join(f"{value:8.3f}" for value in (*held, mean_interval_width(interval)))
    print(f"{name:26}{columns}")

# %%

grid = np.linspace(-2, 2, 300)[:, None]
figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), sharey=True, layout="constrained")
for ax, (name, interval_of) in zip(axes, methods.items()):
    ax.fill_between(grid[:, 0], *interval_of(grid).T, color="#56B4E9", alpha=0.5, linewidth=0)
    ax.plot(grid[:, 0], network.predict(grid), color="#0b4f8a")
    ax.plot(X_test[:400, 0], y_test[:400], ".", color="0.25", markersize=3)
    ax.set(title=name, xlabel="x")
axes[0].set_ylabel("y")
figure.set_label(
    "Three bands around the same curve. The network's and the one scaled by its deviation widen to "
    "the right with the noise; the one from absolute errors has one width."
)

if sys.argv[1:]:
    figure.savefig(sys.argv[1], dpi=90)
else:
    plt.show()
