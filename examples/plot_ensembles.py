"""
One verb for every ensemble
===========================

A forest, a Gaussian process, a bag of ridge regressions and an ensemble of networks learn the same
curve. Its noise grows from left to right, and there are no data in a gap in the middle.
``skuq.predict_uncertainty`` and ``skuq.predict_interval`` ask all four in the same way. Takes about
twenty seconds.
"""

# %%
# The noise has a standard deviation from 0.05 to 0.45. The rows of the test lie outside of the gap,
# too, and in it.

import sys

import matplotlib.pyplot as plt
import numpy as np
from sklearn.ensemble import BaggingRegressor, RandomForestRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel
from sklearn.linear_model import BayesianRidge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import SplineTransformer, StandardScaler

import skuq
from skuq.metrics import bootstrap, prediction_interval_coverage


def make_rows(n, seed, gap):
    random = np.random.default_rng(seed)
    x = random.uniform(-3, 3, n)
    x = x[np.abs(x) > 1] if gap else x
    noise = (0.05 + 0.4 * (x + 3) / 6) * random.standard_normal(len(x))
    return x[:, None], np.sin(2 * x) + noise


X, y = make_rows(300, 0, gap=True)
X_test, y_test = make_rows(1000, 1, gap=True)
grid = np.linspace(-3, 3, 300)[:, None]

# %%
# The trees of the forest have at least five rows in a leaf, so that each leaf knows its noise.

models = {
    "random forest": RandomForestRegressor(200, min_samples_leaf=5, random_state=0),
    "Gaussian process": GaussianProcessRegressor(RBF() + WhiteKernel(), random_state=0),
    "20 bagged splines": BaggingRegressor(
        make_pipeline(SplineTransformer(8, extrapolation="linear"), BayesianRidge()),
        n_estimators=20,
        random_state=0,
    ),
    "5 networks": make_pipeline(
        StandardScaler(),
        skuq.TorchRegressor(max_epochs=150, module__activation="tanh", random_state=0),
    ),
}
for model in models.values():
    model.fit(X, y)

# %%
# The coverage of 90 % intervals, with its own 95 % interval: the forest and the networks know that
# the noise grows, the other two have one noise level.

for name, model in models.items():
    interval = skuq.predict_interval(model, X_test, 0.9)
    found = bootstrap(prediction_interval_coverage, y_test, interval)
    print(f"{name:18} covers {found.value:.1%} ({found.low:.1%} to {found.high:.1%})")

# %%
# Light bands are 90 % intervals, dark bands twice the epistemic standard deviation. In the gap, the
# forest repeats the values at the edges: its trees agree on what none has seen.

DARK, LIGHT = "#0b4f8a", "#f0a030"  # told apart by colour-blind readers and in greyscale
figure, axes = plt.subplots(2, 2, figsize=(9, 6), sharex=True, sharey=True, layout="constrained")
for ax, (name, model) in zip(axes.flat, models.items()):
    low, high = skuq.predict_interval(model, grid, 0.9).T
    mean = skuq.predict_draws(model, grid).mean(axis=0)[:, 0]
    doubt = 2 * np.sqrt(skuq.predict_uncertainty(model, grid, kind="epistemic"))
    ax.fill_between(grid[:, 0], low, high, color=LIGHT, alpha=0.4, label="90 % interval")
    ax.fill_between(
        grid[:, 0], mean - doubt, mean + doubt, color=DARK, alpha=0.5, label="epistemic, 2 std"
    )
    ax.plot(grid[:, 0], mean, color=DARK)
    ax.plot(grid[:, 0], np.sin(2 * grid[:, 0]), ":", color="0.3", label="true mean")
    ax.plot(X[:, 0], y, ".", color="0.2", markersize=2)
    ax.axvspan(-1, 1, color="0.93", zorder=0)
    ax.set(title=name, ylim=(-2.5, 2.5))
axes[0, 0].legend(fontsize="small", loc="upper left")

figure.set_label(
    "One curve with a gap in its data, learnt by a forest, a Gaussian process, bagged splines "
    "and five networks. In the gap the epistemic band of the Gaussian process and of the splines "
    "opens, that of the networks hardly does, and the forest repeats its last values."
)
if sys.argv[1:]:
    figure.savefig(sys.argv[1], dpi=90)
plt.show()
