"""
How much does the prior matter, and how slow is a Markov chain?
===============================================================

Three claims on Bayesian networks are often repeated: the prior matters, variational inference is
too certain, and Markov chains are slow. Here is a problem that is small enough to check them: a
logistic regression on 30 fixed features of one number x. All its weights have the prior N(0, 1/δ).
A long run of Hamiltonian Monte Carlo in NumPy, whose steps are accepted or rejected so that only
its length limits it, is the reference.

It takes about 30 seconds.
"""

import sys
import time

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

from skuq import TorchClassifier
from skuq.likelihoods import Bernoulli
from skuq.posteriors import SGMCMC, LastLayerLaplace, PointEstimate, Variational

torch.set_num_threads(1)  # networks as small as this one train fastest so
N_FEATURES, N_ROWS = 30, 60
random = np.random.default_rng(0)
FREQUENCY = random.standard_normal(N_FEATURES)
PHASE = random.uniform(0, 2 * np.pi, N_FEATURES)


def features(x):
    """The prior of a logit has the variance 1/δ."""
    return np.sqrt(2 / N_FEATURES) * np.cos(np.outer(x, FREQUENCY) + PHASE)


class Network(nn.Module):
    """The last layer is the whole network: no bias, so that every weight has the same prior."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(N_FEATURES, 1, bias=False)

    def forward(self, x):
        return self.last(x)


# %%
# The data has a gap between −1 and 1, and ends at ±4.


def make_data(n, seed):
    rng = np.random.default_rng(seed)
    x = rng.uniform(1, 4, n) * rng.choice([-1, 1], n)
    return x, (rng.random(n) < 1 / (1 + np.exp(-3 * np.sin(1.5 * x)))).astype(int)


x_train, y_train = make_data(N_ROWS, 1)
x_test, y_test = make_data(2000, 2)
grid = np.linspace(-6, 6, 121)
PLACES = {"data": (np.abs(grid) > 1) & (np.abs(grid) < 4), "gap": np.abs(grid) < 1,
          "far": np.abs(grid) > 5}  # fmt: skip

# %%
# The reference. The chains run side by side, in coordinates in which the posterior is nearly round.


def hamiltonian(X, y, precision, n_chains=100, n_burn=60, n_kept=60, n_steps=12, step=0.15):
    rng = np.random.default_rng(0)

    def gradient(weights):  # of the potential, (n_features, n_chains)
        p = 1 / (1 + np.exp(-X @ weights))
        return X.T @ (p - y[:, None]) + precision * weights

    def potential(weights):
        z = X @ weights
        return (np.logaddexp(0, z) - y[:, None] * z).sum(0) + precision * (weights**2).sum(0) / 2

    best = np.zeros((X.shape[1], 1))
    for _ in range(100):  # Newton's method, in steps that do not overshoot
        p = 1 / (1 + np.exp(-X @ best))
        curvature = (X * p * (1 - p)).T @ X + precision * np.eye(X.shape[1])
        move = np.linalg.solve(curvature, gradient(best))
        best -= move / max(1, np.abs(X @ move).max())
    shape = np.linalg.inv(np.linalg.cholesky(curvature)).T
    place = best + shape @ rng.standard_normal((X.shape[1], n_chains))
    kept, accepted = [], 0
    for turn in range(n_burn + n_kept):
        momentum = rng.standard_normal(place.shape)
        before = potential(place) + (momentum**2).sum(0) / 2
        new = place.copy()
        momentum -= step / 2 * shape.T @ gradient(new)
        for k in range(n_steps):
            new += step * shape @ momentum
            momentum -= step * (0.5 if k == n_steps - 1 else 1) * shape.T @ gradient(new)
        after = potential(new) + (momentum**2).sum(0) / 2
        take = np.log(rng.random(n_chains)) < before - after
        place = np.where(take, new, place)
        accepted += take.mean()
        if turn >= n_burn:
            kept.append(place)
    return np.concatenate(kept, axis=1), accepted / (n_burn + n_kept)


# %%
# The posteriors of skuq. The gradient of the mean loss and a weight decay of δ/n lead to the mode
# of the posterior, about which Laplace's approximation is made. The prior of `Variational` is
# divided by the number of inputs; a weight of 1 of its divergence is the bound of the evidence.


def posteriors(precision):
    scale = (N_FEATURES / precision) ** 0.5
    chain = {"n_cycles": 1, "n_draws_per_cycle": 200, "prior_precision": precision, "lr": 0.1}
    return {
        "LastLayerLaplace": LastLayerLaplace(prior_precision=precision, n_draws=400),
        "Variational": Variational(prior_scale=scale, kl_weight=1.0, n_draws=400),
        "SGMCMC, 400 steps": SGMCMC(n_epochs=400, **chain),
        "SGMCMC, 3200 steps": SGMCMC(n_epochs=3200, **chain),
    }


def fit(posterior, precision):
    started = time.process_time()
    decays = not isinstance(posterior, Variational)  # which has its prior in the loss
    model = TorchClassifier(
        Network,
        likelihood=Bernoulli(),
        posterior=posterior,
        lr=0.05,
        max_epochs=800,
        batch_size=N_ROWS,
        optimizer__weight_decay=precision / N_ROWS if decays else 0.0,
        device="cpu",
        random_state=0,
    ).fit(features(x_train), y_train)
    return model, time.process_time() - started


fit(PointEstimate(), 1.0)  # the first fit loads parts of torch
training = fit(PointEstimate(), 1.0)[1]

# %%
# For each prior precision: the mean deviation of the probability between draws (the epistemic part)
# at the data, in the gap and far away, the mean distance of the mean probability from the
# reference, the deviation divided by that of the reference, the log loss on 2000 other rows, and
# the time of the processor, which includes the training, over that of the training.

PRECISIONS = (0.01, 0.1, 1.0, 10.0)
curves = {}


def summary(name, precision, draws, loss, seconds):
    """`draws` are probabilities on the grid, (n_draws, n_places)."""
    mean, deviation = draws.mean(0), draws.std(0)
    curves[name, precision] = mean, deviation
    expected, width = curves["reference", precision]
    error, ratio = np.abs(mean - expected).mean(), deviation.mean() / width.mean()
    of_places = "".join(f"{deviation[place].mean():>7.3f}" for place in PLACES.values())
    print(f"{precision:>6g}  {name:<20}{of_places}{error:>9.4f}{ratio:>8.2f}{loss:>8.4f}"
          f"{seconds / training:>8.1f}")  # fmt: skip


def log_loss(p):
    return -np.log(np.where(y_test == 1, p, 1 - p)).mean()


print(f"{'δ':>6}  {'deviation at':<20}{''.join(f'{place:>7}' for place in PLACES)}"
      f"{'error':>9}{'ratio':>8}{'loss':>8}{'time':>8}")  # fmt: skip
for precision in PRECISIONS:
    started = time.process_time()
    weights, share = hamiltonian(features(x_train), y_train, precision)
    seconds = time.process_time() - started
    draws = 1 / (1 + np.exp(-features(grid) @ weights)).T
    p_test = (1 / (1 + np.exp(-features(x_test) @ weights))).mean(1)
    curves["reference", precision] = draws.mean(0), draws.std(0)
    summary("reference", precision, draws, log_loss(p_test), seconds)
    halves = (draws[half::2].mean(0) for half in (0, 1))  # of the chains
    own = np.abs(np.subtract(*halves)).mean() / 2
    print(f"        the reference's own error {own:.4f}; {share:.0%} of its steps accepted")
    for name, posterior in posteriors(precision).items():
        model, seconds = fit(posterior, precision)
        draws = model.predict_draws(features(grid))[..., 1]
        loss = log_loss(model.predict_proba(features(x_test))[:, 1])
        summary(name, precision, draws, loss, seconds)

# %%
# The prior against the data: the reference once more, with 60 rows and with 600.

print(f"\n{'δ':>6}{'rows':>6}{'deviation in the gap':>22}{'loss':>8}")
for n in (N_ROWS, 10 * N_ROWS):
    x_more, y_more = make_data(n, 1)
    for precision in PRECISIONS:
        weights, _ = hamiltonian(features(x_more), y_more, precision, n_chains=40)
        draws = 1 / (1 + np.exp(-features(grid[PLACES["gap"]]) @ weights))
        p_test = (1 / (1 + np.exp(-features(x_test) @ weights))).mean(1)
        print(f"{precision:>6g}{n:>6}{draws.std(1).mean():>22.3f}{log_loss(p_test):>8.4f}")

# %%
# The picture: bands are the mean ± the deviation of the draws of the reference, lines their edges
# in the other posteriors.

DARK, LIGHT, ORANGE, GREEN = "#0072B2", "#BBBBBB", "#D55E00", "#009E73"
STYLES = {
    "LastLayerLaplace": (DARK, "-"), "Variational": (ORANGE, "--"),
    "SGMCMC, 400 steps": ("#000000", ":"), "SGMCMC, 3200 steps": (GREEN, "-."),
}  # fmt: skip
figure, axes = plt.subplots(2, 2, figsize=(10, 6.4), sharex=True, sharey=True, layout="constrained")
for ax, precision in zip(axes.flat, PRECISIONS):
    mean, deviation = curves["reference", precision]
    ax.fill_between(grid, (mean - deviation).clip(0), (mean + deviation).clip(None, 1),
                    color=LIGHT, lw=0, label="reference, mean ± deviation")  # fmt: skip
    for name, (colour, stroke) in STYLES.items():
        mean, deviation = curves[name, precision]
        for side in (-1, 1):
            edge = (mean + side * deviation).clip(0, 1)
            ax.plot(grid, edge, stroke, color=colour, lw=1.3, label=name if side > 0 else None)
    ax.plot(x_train, y_train, "|", color="0.3", ms=6)
    ax.set(title=f"prior precision δ = {precision:g}", xlim=(-6, 6), ylim=(-0.03, 1.03))
handles, names = axes[0, 0].get_legend_handles_labels()
figure.legend(handles, names, loc="outside upper center", ncols=5, fontsize="small", frameon=False)
figure.supxlabel("x")
figure.supylabel("probability of the second class")
figure.set_label(
    "Four panels, one for each precision of the prior: a grey band of probabilities from the "
    "reference, and the edges of the bands of four other samplers. With a wide prior the bands "
    "differ, with a narrow one all agree and are flat."
)
if sys.argv[1:]:
    figure.savefig(sys.argv[1], dpi=80)
plt.show()
