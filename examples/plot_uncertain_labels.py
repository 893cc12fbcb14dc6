"""
Labels that say "uncertain": which policy to take?
==================================================

Reports of X-rays that are read by a program give labels such as "pneumonia: yes", "no", or
"uncertain". Irvin et al. (2019, arXiv:1901.07031) compared five policies for uncertain labels and
found that the best one differs from finding to finding. This example makes data in which we know
why annotators were uncertain, and ranks the policies by the log loss, which they can be ranked by
in practice: on labels that are certain.

It takes about 20 seconds.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.multioutput import MultiOutputClassifier

from skuq import TorchClassifier
from skuq.likelihoods import Bernoulli, Categorical
from skuq.posteriors import PointEstimate

torch.set_num_threads(1)  # networks as small as these train fastest so
SEEDS = range(5)

# %%
# Four findings. Each is true with a probability that depends on x. A third of the labels become
# "u", NaN, for a reason of their own:
#
# * *at random*: nothing can be learnt from them;
# * *hard cases*: the probability is near one half;
# * *mostly true*: the annotator saw something and hedged;
# * *mostly false*: the annotator saw nothing and hedged.

FINDINGS = ("at random", "hard cases", "mostly true", "mostly false")


def make_data(n, rng):
    X = rng.standard_normal((n, 8)).astype(np.float32)
    z = 2.5 * np.stack([X[:, k] + np.sin(2 * X[:, 4 + k]) * X[:, k - 1] for k in range(4)], axis=1)
    truth = (rng.random((n, 4)) < 1 / (1 + np.exp(-z))).astype(float)
    score = np.stack([0 * z[:, 0], -np.abs(z[:, 1]), 2 * truth[:, 2], -2 * truth[:, 3]], axis=1)
    score = score + rng.gumbel(size=score.shape) * [1, 0.3, 1, 1]
    uncertain = score > np.quantile(score, 2 / 3, axis=0)
    return X, truth, np.where(uncertain, np.nan, truth)


# %%
# The policies. `Bernoulli` has four of them: NaN in y is an uncertain label. For the fifth,
# "uncertain" is a third class, and the answer is the probability of "yes" among "yes" and "no". It
# needs a network for each finding, which may be an advantage of its own. So U-Ignore runs with four
# networks, too.

OPTIONS = {
    "posterior": PointEstimate(), "module__hidden_layer_sizes": (32, 32), "module__dropout": 0.0,
    "lr": 3e-3, "max_epochs": 25, "batch_size": 64, "device": "cpu",
}  # fmt: skip
POLICIES = {"U-Ignore": "ignore", "U-Zeros": "zeros", "U-Ones": "ones", "U-SelfTrained": "self"}


def predict(policy, X, y, X_test, seed):
    if policy in POLICIES:
        likelihood = Bernoulli(uncertain_label=POLICIES[policy])
        model = TorchClassifier(likelihood=likelihood, random_state=seed, **OPTIONS).fit(X, y)
        return model.predict_proba(X_test)
    if policy == "U-Ignore, 4 networks":
        columns = [(X[~np.isnan(of)], of[~np.isnan(of)].astype(int)) for of in y.T]
        fits = (
            TorchClassifier(likelihood=Bernoulli(), random_state=seed, **OPTIONS).fit(*column)
            for column in columns
        )
        return np.stack([fit.predict_proba(X_test)[:, 1] for fit in fits], axis=1)
    network = TorchClassifier(likelihood=Categorical(), random_state=seed, **OPTIONS)
    three = MultiOutputClassifier(network).fit(X, np.where(np.isnan(y), 2, y).astype(int))
    return np.stack([p[:, 1] / (p[:, 0] + p[:, 1]) for p in three.predict_proba(X_test)], axis=1)


def log_losses(y, p):
    """The mean over labels that are known, for each finding."""
    p = np.clip(p, 1e-7, 1 - 1e-7)
    return np.nanmean(-(y * np.log(p) + (1 - y) * np.log(1 - p)), axis=0)


# %%
# Each seed has its own 1000 rows of training and 3000 of test. The second number is known only in
# an experiment: the loss on all test labels, uncertain ones included, against the truth.

certain = {policy: [] for policy in (*POLICIES, "U-Ignore, 4 networks", "U-MultiClass")}
everything = {policy: [] for policy in certain}
for seed in SEEDS:
    rng = np.random.default_rng(seed)
    X, _, y = make_data(1000, rng)
    X_test, truth, y_test = make_data(3000, rng)
    for policy in certain:
        p = predict(policy, X, y, X_test, seed)
        certain[policy].append(log_losses(y_test, p))
        everything[policy].append(log_losses(truth, p))

for title, of in {"certain labels": certain, "all labels, the truth": everything}.items():
    print(f"\nlog loss on {title}, mean ± standard error of {len(SEEDS)} seeds")
    print(" " * 22 + "".join(finding.rjust(18) for finding in FINDINGS))
    for policy, losses in of.items():
        mean, error = np.mean(losses, axis=0), np.std(losses, axis=0, ddof=1) / len(SEEDS) ** 0.5
        print(
            f"{policy:<22}" + "".join(f"{m:.3f} ± {e:.3f}".rjust(18) for m, e in zip(mean, error))
        )
    best = np.argmin([np.mean(losses, axis=0) for losses in of.values()], axis=0)
    print("best".ljust(22) + "".join(list(of)[k].rjust(18) for k in best))

# %%
# The picture has the loss of each policy minus that of U-Ignore in the same seed: left on the
# labels that are certain, right against the truth. Below zero is better than leaving uncertain
# labels out.

COLOURS, MARKERS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000"), "os^DX"
figure, axes = plt.subplots(1, 2, figsize=(11, 4), sharey=True, layout="constrained")
for ax, (title, of) in zip(axes, {"certain labels": certain, "the truth": everything}.items()):
    for k, policy in enumerate(p for p in of if p != "U-Ignore"):
        minus = np.subtract(of[policy], of["U-Ignore"])
        place = np.arange(4) + 0.13 * (k - 2)
        error = minus.std(axis=0, ddof=1) / len(SEEDS) ** 0.5
        ax.errorbar(place, minus.mean(0), error, fmt=MARKERS[k], color=COLOURS[k], capsize=3,
                    label=policy)  # fmt: skip
    ax.axhline(0, color="0.3", lw=1)
    ax.set(title=f"log loss on {title}", xticks=range(4), xticklabels=FINDINGS)
axes[0].set_ylabel("minus that of U-Ignore")
axes[0].legend()
figure.set_label(
    "Log loss of five policies minus that of ignoring uncertain labels, for four reasons of "
    "uncertainty. Left, on certain labels, taking sides is worse everywhere; right, on the "
    "truth, it is best where most uncertain labels are of that side."
)
if sys.argv[1:]:
    figure.savefig(sys.argv[1], dpi=80)
plt.show()
