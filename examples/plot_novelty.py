"""
Has it seen such a thing? Digits, halves of digits, shuffled pixels
===================================================================

A small ensemble learns scikit-learn's digits. Detectors around it learn what known digits are like,
from others that the network has not seen. They then rank images that are no digits: halves of two
different digits side by side, which are near to digits, and digits whose pixels are shuffled, which
are far. Distances between features find the strange; the entropy of the prediction finds the
mistaken.

Takes about ten seconds. The picture of the docs is made by
``python examples/plot_novelty.py docs/novelty.png``.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score

from skuq import TorchClassifier
from skuq.metrics import NoveltyHistogramDisplay, NoveltyROCDisplay
from skuq.novelty import NoveltyDetector
from skuq.posteriors import DeepEnsemble

torch.set_num_threads(1)  # networks as small as these train fastest so

# %%
# Known digits, and strange ones
# ------------------------------
# Some digits train the network, some show the detectors what is normal, some are new.

X, y = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(X))
(X_train, X_known, X_test), (y_train, y_known, y_test) = (
    np.split(values, [700, 1200]) for values in ((X[order] / 16).astype(np.float32), y[order])
)
rng = np.random.default_rng(0)
other = rng.permutation(len(X_test))
halves = X_test.reshape(-1, 8, 8).copy()
halves[..., 4:] = X_test[other].reshape(-1, 8, 8)[..., 4:]
novel = {
    "halves": halves[y_test != y_test[other]].reshape(-1, 64),
    "shuffled": np.stack([row[rng.permutation(64)] for row in X_test]),
}

network = TorchClassifier(posterior=DeepEnsemble(), max_epochs=40, lr=3e-3, random_state=0)
network.fit(X_train, y_train)
wrong = network.predict(X_test) != y_test
print(f"{wrong.sum()} of {len(wrong)} digits are mistaken for another")

# %%
# Seven measures
# --------------
# How well does each tell the strange images, and the mistakes, from the rest? The last column is
# the share of the test digits that is flagged.

MEASURES = (
    "mahalanobis",
    "relative_mahalanobis",
    "density",
    "knn",
    "energy",
    "entropy",
    "epistemic",
)
detectors = {
    measure: NoveltyDetector(FrozenEstimator(network), measure=measure).fit(X_known, y_known)
    for measure in MEASURES
}
print(f"{'AUROC for':22}{'shuffled':>10}{'halves':>10}{'mistakes':>10}{'flagged':>10}")
for measure, detector in detectors.items():
    known = detector.predict_novelty(X_test)
    found = [
        roc_auc_score(
            np.repeat([0, 1], [len(known), len(novel[name])]),
            np.append(known, detector.predict_novelty(novel[name])),
        )
        for name in ("shuffled", "halves")
    ]
    mistakes = roc_auc_score(wrong, known)
    flagged = (detector.predict(X_test) < 0).mean()
    print(f"{measure:22}{found[0]:10.3f}{found[1]:10.3f}{mistakes:10.3f}{flagged:10.3f}")

# %%
# A batch in which some are strange: of those flagged, at most a tenth should be known digits.

detector = detectors["mahalanobis"]
mixed = np.vstack([X_test[:300], novel["shuffled"][:100]])
flagged = detector.predict(mixed, fdr=0.1) < 0
print(
    f"among 300 digits and 100 shuffled ones, fdr=0.1 flags {flagged[:300].sum()} digits and "
    f"{flagged[300:].sum()} shuffled ones"
)

# %%
# How to read the picture
# -----------------------
# Above, images of each kind from the most normal to the strangest. Below, the distances of digits
# and halves, which overlap; and how many strange images are found at each rate of false alarms.

figure = plt.figure(figsize=(10, 7.2), layout="constrained")
above, below = figure.subfigures(2, 1, height_ratios=[1, 1.75])
for axes, (title, rows) in zip(above.subplots(3, 12), {"digits": X_test, **novel}.items()):
    novelty = detector.predict_novelty(rows)
    places = np.linspace(0, len(rows) - 1, len(axes)).astype(int)
    for ax, index in zip(axes, np.argsort(novelty)[places]):
        ax.imshow(rows[index].reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
        ax.set_xlabel(f"{novelty[index]:.1f}", fontsize=8, labelpad=2)
    axes[0].set_ylabel(title)
above.suptitle(
    "from the most normal to the strangest; below each, its distance, standardised", fontsize=10
)
left, right = below.subplots(1, 2)
NoveltyHistogramDisplay.from_estimator(detector, X_test, novel["halves"], name="halves", ax=left)
for name, measure in (
    ("shuffled", "mahalanobis"),
    ("shuffled", "entropy"),
    ("halves", "relative_mahalanobis"),
    ("halves", "mahalanobis"),
):
    NoveltyROCDisplay.from_estimator(
        detectors[measure], X_test, novel[name], name=f"{name} by {measure}", ax=right
    )
figure.set_label(
    "Digits, halves of two digits and shuffled pixels, each row from the most normal to the "
    "strangest; histograms of the distances of digits and halves; four ROC curves, best for "
    "shuffled pixels by distance."
)

if sys.argv[1:]:
    figure.savefig(sys.argv[1], dpi=80)
else:
    plt.show()
