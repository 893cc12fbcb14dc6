"""
Digits with wrong labels: which loss bears them, and which labels are wrong
===========================================================================

Labels of look-alikes (0 and 6, 1 and 7, 3 and 8, 5 and 9) are exchanged at random in training; the
test labels are clean. Below a rate of one half the right label stays the most frequent one, so a
perfect learner would not lose accuracy; the curves show how much each loss does lose. Then a
network of each fold judges the labels of the others, and the most suspicious are drawn.

Three seeds are few: their standard errors are drawn, too. It takes about a minute.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold, train_test_split

from skuq import TorchClassifier
from skuq.datasets import flip_labels, noise_scores
from skuq.likelihoods import Categorical, UncertaintyAware
from skuq.posteriors import DeepEnsemble, PointEstimate

torch.set_num_threads(1)  # networks as small as these train fastest so
PAIRS = ((0, 6), (1, 7), (3, 8), (5, 9))
RATES = (0.0, 0.2, 0.4)
SEEDS = range(3)
LOSSES = {
    "cross-entropy (CE)": Categorical(),
    "CE + label smoothing": Categorical(label_smoothing=0.1),
    "square loss": UncertaintyAware(log_variance="constant"),
    "UANLL": UncertaintyAware(),
}
X, y = load_digits(return_X_y=True)
X = X.astype(np.float32) / 16


def network(likelihood, seed=0, **options):
    settings = {
        "posterior": PointEstimate(),
        "module__hidden_layer_sizes": (128, 64),
        "module__dropout": 0.0,
        "lr": 5e-4,
        "max_epochs": 40,
        "batch_size": 64,
        "device": "cpu",
    }
    return TorchClassifier(likelihood=likelihood, random_state=seed, **{**settings, **options})


# %%
# Which loss bears wrong labels?
# ------------------------------
# Accuracy on clean test labels, mean and standard error over the seeds.

found = {name: np.zeros((len(RATES), len(SEEDS))) for name in LOSSES}
for seed in SEEDS:
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.4, stratify=y, random_state=seed
    )
    for k, rate in enumerate(RATES):
        noisy = flip_labels(y_train, PAIRS, rate, random_state=seed).y_noisy
        for name, likelihood in LOSSES.items():
            model = network(likelihood, seed).fit(X_train, noisy)
            found[name][k, seed] = model.score(X_test, y_test)


def mean_and_error(values):
    return values.mean(axis=1), values.std(axis=1, ddof=1) / np.sqrt(values.shape[1])


print(f"{'accuracy on clean labels':<26}" + "".join(f"{rate:>16.0%}" for rate in RATES))
for name, values in found.items():
    cells = (f"{m:.3f} ± {e:.3f}" for m, e in zip(*mean_and_error(values)))
    print(f"{name:<26}" + "".join(f"{cell:>16}" for cell in cells))

# %%
# Which labels are wrong?
# -----------------------
# A fifth is flipped. Each label is judged by networks that have not seen it.

noisy, flipped, _ = flip_labels(y, PAIRS, 0.2, random_state=0)
folds = StratifiedKFold(5, shuffle=True, random_state=0)
ensemble = network(UncertaintyAware(), posterior=DeepEnsemble(3), max_epochs=15)
scores = noise_scores(ensemble, X, noisy, cv=folds)
print("AUROC of finding the flipped labels, 20 %, by an ensemble with UANLL, out of fold:")
for name, value in scores.auroc(flipped).items():
    print(f"  {name:<16}{value:.3f}")

# %%

figure = plt.figure(figsize=(11, 4.6), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[1, 1.1])
ax = left.subplots()
for (name, values), style in zip(found.items(), ("k-", "b--", "g:", "r-.")):
    mean, error = mean_and_error(values)
    ax.errorbar(RATES, mean, error, fmt=style, marker="o", ms=4, capsize=3, label=name)
ax.set(xlabel="rate of flipped labels", ylabel="accuracy on clean labels", xticks=RATES)
ax.grid(alpha=0.3)
ax.legend()
right.suptitle("most suspicious of 1797 labels, 20 % flipped:\nlabel given, and whether flipped")
for ax, i in zip(right.subplots(3, 6).flat, np.argsort(scores.loss)[::-1]):
    ax.imshow(X[i].reshape(8, 8), cmap="gray_r")
    ax.set_title(f"{noisy[i]} {'flipped' if flipped[i] else 'not'}", fontsize=9)
    ax.axis("off")
figure.set_label(
    "Left: accuracy of four losses against the rate of flipped labels. Right: the eighteen most "
    "suspicious digits with the labels that they were given; nearly all were flipped."
)

if sys.argv[1:]:
    figure.savefig(sys.argv[1], dpi=100)
else:
    plt.show()
