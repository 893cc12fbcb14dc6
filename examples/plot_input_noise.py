"""
A sensor with a known error
===========================

A network learns a curve from exact inputs. In use, the input comes from a sensor whose error has a
known standard deviation. Where the curve is steep, this error matters; where it is flat, it does
not. The network itself cannot know. `InputNoise` adds what the error brings, so that intervals hold
the truth as often as they promise.
"""

# %%
# Exact rows to learn from, and measured rows to predict.

import sys

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.frozen import FrozenEstimator

from skuq import TorchRegressor
from skuq.inputs import InputNoise
from skuq.posteriors import DeepEnsemble

torch.set_num_threads(1)  # the networks are small
ERROR = 0.15


def temperature(position):
    """Compute a temperature that jumps at position 0 and is flat elsewhere."""
    return np.tanh(4 * position) + 0.2 * np.sin(3 * position)


random = np.random.default_rng(0)
X = random.uniform(-2, 2, size=(600, 1))
y = temperature(X[:, 0]) + 0.05 * random.normal(size=600)
position = random.uniform(-1.8, 1.8, size=4000)
y_use = temperature(position) + 0.05 * random.normal(size=4000)
X_use = (position + ERROR * random.normal(size=4000))[:, None]

# %%
# The error is given, in the units of X. Slopes suffice while the curve is nearly straight over the
# error; Monte Carlo is right beyond that, and flattens the prediction.

network = TorchRegressor(
    posterior=DeepEnsemble(n_members=3), max_epochs=100, lr=5e-3, random_state=0
)
network.fit(X, y)
models = {
    "network": network,
    "+ slopes": InputNoise(FrozenEstimator(network), scale=ERROR).fit(X, y),
    "+ Monte Carlo": InputNoise(
        FrozenEstimator(network), scale=ERROR, method="monte_carlo", n_samples=32
    ).fit(X, y),
}
for name, model in models.items():
    low, high = model.predict_interval(X_use, confidence_level=0.9).T
    inside, steep = (low <= y_use) & (y_use <= high), np.abs(X_use[:, 0]) < 0.3
    print(
        f"{name:14} 90 % intervals hold {inside.mean():.1%}, where it is steep "
        f"{inside[steep].mean():.1%}; mean width {np.mean(high - low):.2f}"
    )

# %%
# Intervals of the network and of both methods, and the three parts of the variance.

grid = np.linspace(-1.8, 1.8, 200)[:, None]
figure, axes = plt.subplots(1, 4, figsize=(15, 3.6), layout="constrained")
for ax, (name, model) in zip(axes, models.items()):
    low, high = model.predict_interval(grid, confidence_level=0.9).T
    ax.fill_between(grid[:, 0], low, high, color="#56B4E9", alpha=0.5, lw=0, label="90 % interval")
    ax.plot(grid, model.predict(grid), color="#0072B2", label="prediction")
    ax.scatter(X_use[:300, 0], y_use[:300], s=5, color="#D55E00", label="measured", zorder=3)
    ax.set(title=name, xlabel="measured position", ylim=(-1.6, 1.6))
axes[0].set_ylabel("temperature")
axes[0].legend(loc="upper left")
parts = models["+ slopes"].predict_uncertainty(grid, kind="nested")
axes[3].stackplot(
    grid[:, 0], parts.noise, parts.input, parts.epistemic,
    colors=["#999999", "#E69F00", "#009E73"], labels=["noise", "input", "epistemic"],
)  # fmt: skip
axes[3].set(title="variance, by slopes", xlabel="measured position")
axes[3].legend()
figure.set_label(
    "Three panels with a steep curve and its 90 % intervals: those of the network are narrow "
    "where the curve rises, those by slopes and by Monte Carlo are wide there. Fourth panel: "
    "nearly all of the variance comes from the input, at the steep place."
)
if sys.argv[1:]:
    figure.savefig(sys.argv[1], dpi=110)
plt.show()
