"""
A curve with growing noise and a gap in the data
================================================

y = sin(2x) + σ(x) ε, with σ growing from left to right and no data in a gap in the middle. The
aleatoric part should follow σ, and the epistemic part should grow where there are no data.

What the members of an ensemble do in a gap depends on the network. Members with tanh disagree; with
``module__activation="relu"`` all draw nearly the same straight line across it, and the epistemic
part says too little. Takes about twenty seconds.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skuq
from skuq import TorchRegressor
from skuq.posteriors import DeepEnsemble

torch.set_num_threads(1)  # networks as small as this one train fastest so
DARK, LIGHT = "#0b4f8a", "#f0a030"  # told apart by colour-blind readers and in greyscale
ENDS, GAP = (-3.0, 3.0), (-1.0, 1.0)

# %%
# The data, and a model
# ---------------------


def true_mean(x):
    return np.sin(2 * x)


def true_sigma(x):
    return 0.05 + 0.4 * (x - ENDS[0]) / (ENDS[1] - ENDS[0])


def in_gap(x):
    return (x > GAP[0]) & (x < GAP[1])


random = np.random.default_rng(0)
x = random.uniform(*ENDS, 400)
x = x[~in_gap(x)]
X, y = x[:, None], true_mean(x) + true_sigma(x) * random.standard_normal(len(x))

network = TorchRegressor(
    posterior=DeepEnsemble(n_members=10, bootstrap=True),
    module__hidden_layer_sizes=(64, 64),
    module__dropout=0.0,
    module__activation="tanh",
    lr=0.01,
    max_epochs=300,
    device="cpu",
    random_state=0,
)
model = make_pipeline(StandardScaler(), network).fit(X, y)

# %%
# In numbers
# ----------
# The interval holds y where there are data, and in the gap, where it is wider.

x = np.linspace(*ENDS, 301)
parts = skuq.predict_uncertainty(model, x[:, None], kind="all")
gap, sigma = in_gap(x), true_sigma(x)
rows = {f"{kind} std": np.sqrt(values) for kind, values in parts._asdict().items()}
new = true_mean(x) + sigma * np.random.default_rng(1).standard_normal((1000, len(x)))
low, high = skuq.predict_interval(model, x[:, None], confidence_level=0.9).T
rows["true σ"] = sigma
rows["90 % interval holds y in"] = ((new >= low) & (new <= high)).mean(axis=0)
print(f"{'mean over x':<26}{'in the gap':>12}{'outside':>12}")
for name, values in rows.items():
    print(f"{name:<26}{values[gap].mean():>12.3f}{values[~gap].mean():>12.3f}")
follows = np.corrcoef(rows["aleatoric std"][~gap], sigma[~gap])[0, 1]
print(f"\ncorrelation of aleatoric std and true σ, outside of the gap: {follows:.3f}")

# %%
# How to read it
# --------------
# Above, the dark band is what the networks disagree about; the light one adds the noise. Below,
# both parts by themselves: the aleatoric one follows the dashed line, the epistemic one rises in
# the gap.

mean = model.predict(x[:, None])
aleatoric, epistemic, total = (
    np.sqrt(part) for part in (parts.aleatoric, parts.epistemic, parts.total)
)
figure, (curve, sigmas) = plt.subplots(
    2, 1, figsize=(9, 8), sharex=True, height_ratios=[3, 2], layout="constrained"
)
for ax in (curve, sigmas):
    ax.axvspan(*GAP, color="0.92", zorder=0)
for name, std, color in (("total", total, LIGHT), ("epistemic", epistemic, DARK)):
    label = f"mean ± 2 {name} std"
    curve.fill_between(x, mean - 2 * std, mean + 2 * std, color=color, alpha=0.5, lw=0, label=label)
curve.plot(x, mean, color=DARK, lw=2.5, label="mean")
curve.plot(x, true_mean(x), "k--", lw=1.5, label="true mean")
curve.plot(X[:, 0], y, ".", color="0.25", ms=4, label="data")
curve.text(np.mean(GAP), curve.get_ylim()[0], "no data here", ha="center", va="bottom")
curve.set_ylabel("y")
curve.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)

sigmas.plot(x, true_sigma(x), "k--", lw=1.5, label="true σ")
sigmas.plot(x, aleatoric, color=LIGHT, lw=3, label="aleatoric")
sigmas.plot(x, epistemic, color=DARK, lw=3, label="epistemic")
sigmas.set(xlabel="x", ylabel="standard deviation", ylim=(0, None), xlim=ENDS)
sigmas.legend(loc="upper left")
figure.set_label(
    "Above: a curve with a light band that widens to the right and a dark band that opens in the "
    "grey gap in the middle. Below: the aleatoric deviation along the true noise, and the "
    "epistemic one with a hump in the gap."
)

if sys.argv[1:]:
    figure.savefig(sys.argv[1], dpi=80)
else:
    plt.show()
