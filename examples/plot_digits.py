"""Digits, and inputs that are none: search, calibrate, and ask how certain the answer is.

A stock scikit-learn `Pipeline` goes through a stock `GridSearchCV` that chooses between posteriors.
One temperature then calibrates the winner, and beside it the same network alone. The table and the
pictures compare them on digits that were not learnt from, and on two kinds of images that are no
digits:

* halves: the left half of one digit beside the right half of a digit of another class. Each half
  looks as in the data; a few of the wholes do look like a digit.
* shuffled: the pixels of one digit in random order.

Only 300 digits are learnt from, so that there are errors to look at. It takes half a minute.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

import skuq
from skuq import TorchClassifier
from skuq.calibration import TemperatureScaler
from skuq.metrics import ReliabilityDisplay, ece_scorer, expected_calibration_error
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate

OUTPUT = Path(__file__).resolve().parent / "output"
DARK, LIGHT = "#0b4f8a", "#f0a030"  # told apart by colour-blind readers and in greyscale

_started = time.perf_counter()


def say(text: str) -> None:
    print(f"[{time.perf_counter() - _started:4.0f} s] {text}", flush=True)


# ---------------------------------------------------------------------------------------------
# Data and models


def make_inputs(X: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """The test digits, and images made from them that are no digits."""
    random = np.random.default_rng(0)
    other = random.permutation(len(X))
    images = X.reshape(-1, 8, 8)
    halves = np.concatenate([images[:, :, :4], images[other][:, :, 4:]], axis=2)
    return {
        "digits": X,
        "halves": halves.reshape(-1, 64)[y != y[other]],
        "shuffled": random.permuted(X, axis=1),
    }


def search(X: np.ndarray, y: np.ndarray) -> GridSearchCV:
    network = TorchClassifier(lr=3e-3, max_epochs=100, device="cpu", random_state=0)
    candidates = {
        "network__posterior": [PointEstimate(), MCDropout(), DeepEnsemble()],
        "network__module__dropout": [0.1, 0.4],
    }
    return GridSearchCV(
        Pipeline([("scale", StandardScaler()), ("network", network)]),
        candidates,
        scoring={"nll": "neg_log_loss", "ece": ece_scorer},
        refit="nll",
        cv=StratifiedKFold(3, shuffle=True, random_state=0),
        verbose=2,
    ).fit(X, y)


def calibrate(pipeline: Pipeline, X: np.ndarray, y: np.ndarray) -> TemperatureScaler:
    """Cross-fitted: the temperature comes from rows that the network of the fold has not seen."""
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return TemperatureScaler(pipeline, cv=folds).fit(X, y)


# ---------------------------------------------------------------------------------------------
# Numbers


def print_search(found: GridSearchCV) -> None:
    results = found.cv_results_
    print(f"\n{'posterior':<18}{'dropout':>8}{'NLL':>8}{'ECE':>8}{'fit, s':>8}")
    for k in np.argsort(results["rank_test_nll"], kind="stable"):
        print(
            f"{results['param_network__posterior'][k]!s:<18}"
            f"{results['param_network__module__dropout'][k]:>8}"
            f"{-results['mean_test_nll'][k]:>8.3f}"
            f"{-results['mean_test_ece'][k]:>8.3f}"
            f"{results['mean_fit_time'][k]:>8.1f}"
        )
    print(flush=True)


def measure(model: Any, inputs: dict[str, np.ndarray], y: np.ndarray) -> dict[str, float]:
    """One column of the table."""
    X = inputs["digits"]
    proba, wrong = model.predict_proba(X), model.predict(X) != y
    parts = {name: skuq.predict_uncertainty(model, Z, kind="all") for name, Z in inputs.items()}
    digits = parts["digits"]
    certain = np.argsort(digits.total)[: int(0.8 * len(X))]
    column = {
        "temperature": getattr(model, "temperature_", 1.0),
        "accuracy": 1 - wrong.mean(),
        "accuracy, 80 % most certain": 1 - wrong[certain].mean(),
        "NLL": log_loss(y, proba),
        "ECE": expected_calibration_error(y, proba),
    }
    for name, uncertainty in parts.items():
        for kind, values in uncertainty._asdict().items():
            column[f"{name}, mean {kind}"] = values.mean()
    column["AUROC, total: errors"] = roc_auc_score(wrong, digits.total)
    for name in ("halves", "shuffled"):
        for kind in ("total", "epistemic"):
            values = [getattr(parts[inside], kind) for inside in ("digits", name)]
            column[f"AUROC, {kind}: {name}"] = roc_auc_score(
                np.repeat([False, True], [len(values[0]), len(values[1])]), np.concatenate(values)
            )
    return column


def print_table(pairs: dict[str, tuple], inputs: dict[str, np.ndarray], y: np.ndarray) -> None:
    columns = [measure(model, inputs, y) for pair in pairs.values() for model in pair]
    print("\nThe test digits; halves: left half of one, right half of another class; shuffled: the")
    print("pixels of a digit in random order. Uncertainties are entropies in nats.\n")
    print(" " * 30 + "".join(f"{name:>24}" for name in pairs))
    print(" " * 30 + f"{'plain':>12}{'calibrated':>12}" * len(pairs))
    for row in columns[0]:
        print(f"{row:<30}" + "".join(f"{column[row]:>12.3f}" for column in columns))
    print(flush=True)


# ---------------------------------------------------------------------------------------------
# Pictures


def save(figure: Any, name: str) -> Path:
    OUTPUT.mkdir(exist_ok=True)
    figure.savefig(OUTPUT / name, dpi=120)
    plt.close(figure)
    return OUTPUT / name


def draw_reliability(pairs: dict[str, tuple], X: np.ndarray, y: np.ndarray) -> Path:
    figure, axes = plt.subplots(1, 2, figsize=(10, 5.6), layout="constrained")
    looks = {
        "plain": {"color": LIGHT, "linestyle": "-"},
        "calibrated": {"color": DARK, "linestyle": "--"},
    }
    for ax, (title, pair) in zip(axes, pairs.items()):
        for model, (name, look) in zip(pair, looks.items()):
            ReliabilityDisplay.from_estimator(model, X, y, name=name, ax=ax, linewidth=2, **look)
        ax.get_legend().set_title(title)
    figure.suptitle("Reliability on test digits (area of a dot: share of the digits)")
    return save(figure, "digits_reliability.png")


def draw_epistemic(title: str, model: Any, inputs: dict[str, np.ndarray]) -> Path:
    figure, axes = plt.subplots(3, 1, figsize=(8, 6), sharex=True, layout="constrained")
    lowest = 1e-5
    levels = np.geomspace(lowest, np.log(10), 40)
    for ax, (name, Z) in zip(axes, inputs.items()):
        values = skuq.predict_uncertainty(model, Z, kind="epistemic")
        shares = np.full(len(Z), 1 / len(Z))
        ax.hist(values.clip(lowest), levels, weights=shares, color=DARK)
        median = np.median(values)
        ax.axvline(median, color=LIGHT, linewidth=4)
        ax.set(title=f"{name}: median {median:.2g}", xscale="log")
    axes[1].set_ylabel("share of the images")
    axes[2].set_xlabel("epistemic uncertainty, nats (first bar: all below)")
    figure.suptitle(f"Epistemic uncertainty, {title} (light line: median)")
    return save(figure, "digits_epistemic.png")


def draw_most_uncertain(model: Any, X: np.ndarray, y: np.ndarray) -> Path:
    proba, parts = model.predict_proba(X), skuq.predict_uncertainty(model, X, kind="all")
    figure = plt.figure(figsize=(10, 5), layout="constrained")
    panels = figure.subfigures(3, 4, wspace=0.08)
    for index, panel in zip(np.argsort(-parts.total), panels.flat):
        picture, bars = panel.subplots(1, 2)
        picture.imshow(X[index].reshape(8, 8), cmap="gray_r")
        picture.set(xticks=[], yticks=[])
        bars.bar(range(10), proba[index], color=np.where(np.arange(10) == y[index], LIGHT, DARK))
        bars.set(ylim=(0, 0.8), xticks=range(10), yticks=[0, 0.4, 0.8], box_aspect=1)
        bars.tick_params(labelsize=7)
        panel.suptitle(
            f"{parts.total[index]:.2f} nats, {parts.epistemic[index]:.2f} epistemic", fontsize=10
        )
    figure.suptitle("The twelve most uncertain test digits (light bar: the label)")
    return save(figure, "digits_most_uncertain.png")


def main() -> None:
    torch.set_num_threads(1)  # networks as small as this one train fastest so
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, train_size=300, stratify=y, random_state=0
    )
    say(f"{len(X_train)} digits to learn from, {len(X_test)} to test on. Searching:")
    found = search(X_train, y_train)
    print_search(found)

    best = found.best_estimator_
    alone = clone(best).set_params(network__posterior=PointEstimate()).fit(X_train, y_train)
    winner = type(best["network"].posterior).__name__
    pairs = {}
    for name, pipeline in {"one network": alone, winner: best}.items():
        say(f"Calibrating: {name}")
        pairs[name] = (pipeline, calibrate(pipeline, X_train, y_train))

    say("Measuring")
    inputs = make_inputs(X_test, y_test)
    print_table(pairs, inputs, y_test)

    say("Drawing")
    calibrated = pairs[winner][1]
    paths = [
        draw_reliability(pairs, X_test, y_test),
        draw_epistemic(f"{winner}, calibrated", calibrated, inputs),
        draw_most_uncertain(calibrated, X_test, y_test),
    ]
    say("Done. Pictures:")
    for path in paths:
        print(os.path.relpath(path))


if __name__ == "__main__":
    main()
