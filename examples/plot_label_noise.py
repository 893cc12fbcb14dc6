"""Digits with wrong labels: which loss bears them, and which labels are the wrong ones.

Labels of look-alikes (0 and 6, 1 and 7, 3 and 8, 5 and 9) are exchanged at random in training; the
test labels are clean. Below a rate of one half the right label stays the most frequent one, so a
perfect learner would not lose accuracy; the curves show how much each loss does lose. Then a
network of each fold judges the labels of the others, and the most suspicious are drawn.

Three seeds are few: their standard errors are drawn, too. It takes about a minute.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold, train_test_split

from skuq import TorchClassifier
from skuq.datasets import NoiseScores, flip_labels, noise_scores
from skuq.likelihoods import Categorical, Likelihood, UncertaintyAware
from skuq.posteriors import DeepEnsemble, PointEstimate

OUTPUT = Path(__file__).resolve().parent / "output"
PAIRS = ((0, 6), (1, 7), (3, 8), (5, 9))
RATES = (0.0, 0.2, 0.4)
SEEDS = range(3)
LOSSES: dict[str, Likelihood] = {
    "cross-entropy (CE)": Categorical(),
    "CE + label smoothing": Categorical(label_smoothing=0.1),
    "square loss": UncertaintyAware(log_variance="constant"),
    "UANLL": UncertaintyAware(),
}
STYLES = ("k-", "b--", "g:", "r-.")  # told apart in greyscale, too


def network(likelihood: Likelihood, seed: int = 0, **options: object) -> TorchClassifier:
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


def accuracies(X: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """On clean test labels, of shape (n_rates, n_seeds), for each loss."""
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
    return found


def suspects(X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, NoiseScores]:
    """Noisy labels, which are flipped, and how each looks to networks that have not seen it."""
    noisy, flipped, _ = flip_labels(y, PAIRS, 0.2, random_state=0)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    ensemble = network(UncertaintyAware(), posterior=DeepEnsemble(3), max_epochs=15)
    return noisy, flipped, noise_scores(ensemble, X, noisy, cv=folds)


def mean_and_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return values.mean(axis=1), values.std(axis=1, ddof=1) / np.sqrt(values.shape[1])


def draw(
    found: dict[str, np.ndarray], X: np.ndarray, noisy: np.ndarray, flipped: np.ndarray,
    scores: NoiseScores,
) -> Path:  # fmt: skip
    figure = plt.figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.1])
    ax = left.subplots()
    for (name, values), style in zip(found.items(), STYLES):
        mean, error = mean_and_error(values)
        ax.errorbar(RATES, mean, error, fmt=style, marker="o", ms=4, capsize=3, label=name)
    ax.set(xlabel="rate of flipped labels", ylabel="accuracy on clean labels", xticks=RATES)
    ax.grid(alpha=0.3)
    ax.legend()
    right.suptitle(
        "most suspicious of 1797 labels, 20 % flipped:\nlabel given, and whether flipped"
    )
    worst = np.argsort(scores.loss)[::-1]
    for ax, i in zip(right.subplots(3, 6).flat, worst):
        ax.imshow(X[i].reshape(8, 8), cmap="gray_r")
        ax.set_title(f"{noisy[i]} {'flipped' if flipped[i] else 'not'}", fontsize=9)
        ax.axis("off")
    OUTPUT.mkdir(exist_ok=True)
    path = OUTPUT / "label_noise.png"
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def main() -> None:
    torch.set_num_threads(1)  # networks as small as these train fastest so
    started = time.perf_counter()
    X, y = load_digits(return_X_y=True)
    X = X.astype(np.float32) / 16
    print(f"{len(LOSSES)} losses, {len(RATES)} rates, {len(SEEDS)} seeds. Training ...", flush=True)
    found = accuracies(X, y)
    print(f"\n{'accuracy on clean labels':<26}" + "".join(f"{rate:>16.0%}" for rate in RATES))
    for name, values in found.items():
        cells = (f"{m:.3f} ± {e:.3f}" for m, e in zip(*mean_and_error(values)))
        print(f"{name:<26}" + "".join(f"{cell:>16}" for cell in cells))
    noisy, flipped, scores = suspects(X, y)
    print("\nAUROC of finding the flipped labels, 20 %, by an ensemble with UANLL, out of fold:")
    for name, value in scores.auroc(flipped).items():
        print(f"  {name:<16}{value:.3f}")
    print(f"\n{os.path.relpath(draw(found, X, noisy, flipped, scores))}", end="")
    print(f", after {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
