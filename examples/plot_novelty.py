"""Has it seen such a thing? Digits, halves of digits, shuffled pixels.

A small ensemble learns scikit-learn's digits. Detectors around it learn what known digits are like,
from others that the network has not seen. They then rank images that are no digits: halves of two
different digits side by side, which are near to digits, and digits whose pixels are shuffled, which
are far. Distances between features find the strange; the entropy of the prediction finds the
mistaken.

Takes about ten seconds. The picture of the docs is made by
``python examples/plot_novelty.py docs/novelty.png``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

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

OUTPUT = Path(__file__).resolve().parent / "output" / "novelty.png"
MEASURES = (
    "mahalanobis",
    "relative_mahalanobis",
    "density",
    "knn",
    "energy",
    "entropy",
    "epistemic",
)
SHOWN = (
    ("shuffled", "mahalanobis"),
    ("shuffled", "entropy"),
    ("halves", "relative_mahalanobis"),
    ("halves", "mahalanobis"),
)


def data() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Digits to train on, to learn what is normal from, and to test on; and their labels."""
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    parts = np.split(order, [700, 1200])
    return [(X[part] / 16).astype(np.float32) for part in parts], [y[part] for part in parts]


def strange(X: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Images that are no digits."""
    rng = np.random.default_rng(0)
    other = rng.permutation(len(X))
    apart = y != y[other]
    halves = X.reshape(-1, 8, 8).copy()
    halves[..., 4:] = X[other].reshape(-1, 8, 8)[..., 4:]
    shuffled = np.stack([row[rng.permutation(64)] for row in X])
    return {"halves": halves[apart].reshape(-1, 64), "shuffled": shuffled}


def gallery(axes: np.ndarray, X: np.ndarray, novelty: np.ndarray, title: str) -> None:
    """Images in the order of their novelty, from the most normal to the strangest."""
    places = np.linspace(0, len(X) - 1, len(axes)).astype(int)
    for ax, index in zip(axes, np.argsort(novelty)[places]):
        ax.imshow(X[index].reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
        ax.set_xlabel(f"{novelty[index]:.1f}", fontsize=8, labelpad=2)
    axes[0].set_ylabel(title)


def draw(
    detectors: dict[str, NoveltyDetector],
    rest: np.ndarray,
    novel: dict[str, np.ndarray],
    path: Path,
) -> None:
    figure = plt.figure(figsize=(10, 7.2), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1, 1.75])
    detector = detectors["mahalanobis"]
    for axes, (title, X) in zip(above.subplots(3, 12), {"digits": rest, **novel}.items()):
        gallery(axes, X, detector.predict_novelty(X), title)
    above.suptitle(
        "from the most normal to the strangest; below each, its distance, standardised", fontsize=10
    )
    left, right = below.subplots(1, 2)
    NoveltyHistogramDisplay.from_estimator(detector, rest, novel["halves"], name="halves", ax=left)
    for name, measure in SHOWN:
        NoveltyROCDisplay.from_estimator(
            detectors[measure], rest, novel[name], name=f"{name} by {measure}", ax=right
        )
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main(path: Path = OUTPUT) -> None:
    torch.set_num_threads(1)  # networks as small as these train fastest so
    (X, X_known, X_test), (y, y_known, y_test) = data()
    network = TorchClassifier(posterior=DeepEnsemble(), max_epochs=40, lr=3e-3, random_state=0).fit(
        X, y
    )
    novel, wrong = strange(X_test, y_test), network.predict(X_test) != y_test
    print(f"{wrong.sum()} of {len(wrong)} digits are mistaken for another\n")

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

    mixed = np.vstack([X_test[:300], novel["shuffled"][:100]])
    flagged = detectors["mahalanobis"].predict(mixed, fdr=0.1) < 0
    print(
        f"\namong 300 digits and 100 shuffled ones, fdr=0.1 flags {flagged[:300].sum()} digits and "
        f"{flagged[300:].sum()} shuffled ones"
    )
    draw(detectors, X_test, novel, path)
    print(os.path.relpath(path))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
