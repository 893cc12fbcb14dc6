"""How well does skuq tell strange rows from known ones, and what does it cost?

    python -m benchmarks.novelty [--seeds 3] [--images 15000] [--epochs 8] [--quick]

from the root of the repository. Images are read from the folder `images` in $SKUQ_DATA, by default
``../shared/data``, and left out without it; `--publish FOLDER` writes the tables there. Each
detector learns from known rows only. Two constants of skuq were settled with such strange rows in
sight, by less than the gaps between measures: the least deviation of a feature, and k of "knn".
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.covariance import LedoitWolf
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import skuq
from benchmarks.harness import measure, ratio, torch_threads
from benchmarks.output import environment
from skuq.metrics import novelty_metrics
from skuq.novelty import NoveltyDetector
from skuq.posteriors import DeepEnsemble, PointEstimate

MEASURES = (
    "mahalanobis", "relative_mahalanobis", "density", "knn", "energy", "max_logit",
    "max_probability", "entropy", "epistemic",
)  # fmt: skip
DEFAULT = "mahalanobis, learnt with the network"
WITHOUT = "mahalanobis of X itself"
NUMBERS = ("AUROC", "known flagged at 95 % found", "novel accepted at 95 % kept", "errors, AUROC")
BAR = {"AUROC": 0.99, "known flagged at 95 % found": 0.03}

Scores = dict[str, dict[str, float]]  # of a measure, by the number


class SmallNet(nn.Module):
    """Two convolutions and a hidden layer, with dropout before the last one."""

    def __init__(self, n_outputs: int, width: int = 128) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(1568, width), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(width, n_outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.trunk(x))


def images() -> dict[str, tuple[np.ndarray, np.ndarray]] | None:
    """Fashion-MNIST to train on, to test on, and MNIST; None where they are not."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("SKUQ_DATA", default)) / "images"
    if not folder.is_dir():
        return None
    found = {}
    for name in ("fashion_mnist_train", "fashion_mnist_test", "mnist_test"):
        with np.load(folder / f"{name}.npz") as data:
            found[name] = (data["X"][:, None] / 255).astype(np.float32), data["y"]
    return found


def scored(detector: Any, known: Any, novel: Any, wrong: np.ndarray) -> dict[str, float]:
    """What a detector makes of known rows, some of which the network gets wrong, and novel ones."""
    novelty = detector.predict_novelty(known)
    found = novelty_metrics(novelty, detector.predict_novelty(novel))
    numbers = (
        found.auroc,
        found.fpr_at_95_novel_found,
        found.fpr_at_95_known_kept,
        roc_auc_score(wrong, novelty) if wrong.any() else np.nan,
    )
    return dict(zip(NUMBERS, numbers))


def every_measure(network: Any, X: Any, y: Any, known: Any, novel: Any, wrong: Any) -> Scores:
    frozen = FrozenEstimator(network)
    scores = {
        name: scored(NoveltyDetector(frozen, measure=name).fit(X, y), known, novel, wrong)
        for name in MEASURES
    }
    if np.ndim(X) == 2:
        scores[WITHOUT] = scored(NoveltyDetector().fit(X), known, novel, wrong)
    return scores


# ---------------------------------------------------------------------------------------------
# What is known and what is strange


def fashion(options: argparse.Namespace) -> Iterator[tuple[str, Scores]]:
    """MNIST is strange to a network of Fashion-MNIST: far, and easy."""
    data = images()
    if data is None:
        print("no images: set SKUQ_DATA")
        return
    n_test = 500 if options.quick else 5000
    known, labels = (part[:n_test] for part in data["fashion_mnist_test"])
    novel = data["mnist_test"][0][:n_test]
    X, y = data["fashion_mnist_train"]
    for seed in range(options.seeds):
        order = np.random.default_rng(seed).permutation(len(X))
        rows, others = order[: options.images], order[options.images :][:n_test]
        network = skuq.TorchClassifier(SmallNet, max_epochs=options.epochs, random_state=seed)
        detector = NoveltyDetector(network, random_state=seed).fit(X[rows], y[rows])
        fitted = detector.estimator_
        wrong = fitted.predict(known) != labels
        print(f"seed {seed}: accuracy {1 - wrong.mean():.3f}", flush=True)
        scores = {DEFAULT: scored(detector, known, novel, wrong)}
        scores[DEFAULT]["flagged at 5 %"] = float((detector.predict(known) < 0).mean())
        yield "MNIST", scores | every_measure(fitted, X[others], y[others], known, novel, wrong)


def digits(options: argparse.Namespace) -> Iterator[tuple[str, Scores]]:
    """Halves of two digits side by side are near; shuffled pixels are far."""
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    for seed in range(options.seeds):
        rng = np.random.default_rng(seed)
        train, others, test = np.split(rng.permutation(len(X)), [600, 1200])
        model = skuq.TorchClassifier(
            posterior=DeepEnsemble(), max_epochs=30, lr=3e-3, random_state=seed
        ).fit(X[train], y[train])
        wrong = model.predict(X[test]) != y[test]
        other = rng.permutation(test)
        apart = y[test] != y[other]
        halves = X[test].reshape(-1, 8, 8).copy()
        halves[..., 4:] = X[other].reshape(-1, 8, 8)[..., 4:]
        strange = {
            "halves of two digits": halves[apart].reshape(-1, 64),
            "shuffled pixels": np.stack([row[rng.permutation(64)] for row in X[test]]),
        }
        for name, novel in strange.items():
            yield name, every_measure(model, X[others], y[others], X[test], novel, wrong)


def tabular(options: argparse.Namespace) -> Iterator[tuple[str, Scores]]:
    """Columns of a table: one of them in another unit, or all of them a bit larger."""
    X, y = load_breast_cancer(return_X_y=True)
    n_epochs = 5 if options.quick else 50
    for seed in range(options.seeds):
        rng = np.random.default_rng(seed)
        train, others, test = np.split(rng.permutation(len(X)), [250, 450])
        network = skuq.TorchClassifier(max_epochs=n_epochs, lr=3e-3, random_state=seed)
        model = make_pipeline(StandardScaler(), network).fit(X[train], y[train])
        wrong = model.predict(X[test]) != y[test]
        unit, drift = X[test].copy(), X[test] + 0.5 * X.std(axis=0)
        column = rng.integers(X.shape[1], size=len(test))
        unit[np.arange(len(test)), column] *= 2.54
        for name, novel in {"one column × 2.54": unit, "all + half a deviation": drift}.items():
            yield name, every_measure(model, X[others], y[others], X[test], novel, wrong)


def table(name: str, runs: list[Scores]) -> str:
    """Means over the seeds, and the worst seed of what has a goal."""
    lines = [f"| {name} | {' | '.join(NUMBERS)} |", "|---" * (1 + len(NUMBERS)) + "|"]
    for row in runs[0]:
        cells = []
        for number in NUMBERS:
            values = [run[row][number] for run in runs]
            worst = (min if number == "AUROC" else max)(values)
            shown = f"{np.nanmean(values):.3f}"
            with_goal = row == DEFAULT and number in BAR
            cells.append(f"{shown} (worst {worst:.3f})" if with_goal else shown)
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


def verdicts(runs: list[Scores]) -> str:
    """Whether the default meets its goals for every seed."""
    found = []
    for number, bar in BAR.items():
        values = [run[DEFAULT][number] for run in runs]
        met = min(values) >= bar if number == "AUROC" else max(values) <= bar
        sign = "at least" if number == "AUROC" else "at most"
        shown = ", ".join(f"{value:.4f}" for value in values)
        found.append(f"* {number}, goal {sign} {bar}: {'met' if met else 'missed'} ({shown})")
    flagged = ", ".join(f"{run[DEFAULT]['flagged at 5 %']:.3f}" for run in runs)
    return "\n".join([*found, f"* known test rows flagged with contamination=0.05: {flagged}"])


# ---------------------------------------------------------------------------------------------
# Cost


def speed(options: argparse.Namespace) -> str:
    """Ratios to plain forward passes of the same rows, and to sorts of the same numbers."""
    rng = np.random.default_rng(0)
    n_rows = 256 if options.quick else 4096
    X = rng.uniform(size=(n_rows, 1, 28, 28)).astype(np.float32)
    y = rng.integers(10, size=n_rows)
    network = skuq.TorchClassifier(SmallNet, max_epochs=1, random_state=0).fit(X[:200], y[:200])
    point = clone(network).set_params(posterior=PointEstimate()).fit(X[:200], y[:200])
    detector = NoveltyDetector(FrozenEstimator(network)).fit(X, y)
    features = skuq.predict_features(network, X)
    module, rows = network.module_.eval(), torch.tensor(X)
    chunk = network._engine.n_rows

    def forward() -> None:
        with torch.no_grad():
            for part in rows.split(chunk):
                module(part)

    def fit() -> None:
        NoveltyDetector(FrozenEstimator(network)).fit(X, y)

    n_scores = 10_000 if options.quick else 1_000_000
    known, novel = rng.normal(size=n_scores // 2), rng.normal(1, 1, size=n_scores // 2)
    together = np.concatenate([known, novel])
    contenders = {
        "forward": forward,
        "point": lambda: point.predict_proba(X),
        "covariance": lambda: LedoitWolf(assume_centered=True).fit(features),
        "fit": fit,
        "score_samples": lambda: detector.score_samples(X),
        "predict_proba": lambda: network.predict_proba(X),
        "sort": lambda: np.sort(together),
        "argsort": lambda: np.argsort(together, kind="stable"),
        "novelty_metrics": lambda: novelty_metrics(known, novel),
    }
    times = measure(contenders, options.repeats)
    fitted = [a - b for a, b in zip(times["fit"], times["covariance"])]
    lines = ["| ratio | median [quartiles] | goal at most |", "|---|---|---|"]
    for what, above, below, goal in (
        ("fit, less the covariance / forward passes", fitted, "forward", 1.5),
        ("fit, less the covariance / predict_proba of one draw", fitted, "point", 1.5),
        ("score_samples / forward passes", times["score_samples"], "forward", 1.3),
        ("score_samples / predict_proba of one draw", times["score_samples"], "point", 1.3),
        ("score_samples / predict_proba of 50 draws", times["score_samples"], "predict_proba", ""),
        ("novelty_metrics / stable argsort", times["novelty_metrics"], "argsort", 3),
        ("novelty_metrics / np.sort", times["novelty_metrics"], "sort", 3),
    ):
        middle, low, high = ratio(above, times[below])
        lines.append(f"| {what} | {middle:.2f} [{low:.2f}–{high:.2f}] | {goal} |")
    return "\n".join([f"{n_rows} images, {n_scores} scores", "", *lines])


# ---------------------------------------------------------------------------------------------


def command_line() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Novelty: what is found, and what it costs.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=15_000, help="of Fashion-MNIST, to learn")
    parser.add_argument("--epochs", type=int, default=8, help="on Fashion-MNIST")
    parser.add_argument("--repeats", type=int, default=7, help="turns of the timing")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--quick", action="store_true", help="few images and one seed, to try it")
    parser.add_argument("--no-speed", action="store_true", help="times nothing")
    parser.add_argument("--only-speed", action="store_true", help="finds nothing")
    parser.add_argument("--publish", type=Path, help="a folder for the tables")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    options = command_line().parse_args(arguments)
    if options.quick:
        options.seeds, options.images, options.epochs, options.repeats = 1, 800, 1, 2
    parts = []
    with torch_threads(options.threads):
        for task in () if options.only_speed else (fashion, digits, tabular):
            runs: dict[str, list[Scores]] = defaultdict(list)
            for name, scores in task(options):
                runs[name].append(scores)
            parts.append(f"## {task.__name__.capitalize()}\n\n{task.__doc__}\n")
            parts += [table(name, of) + "\n" for name, of in runs.items()]
            if "MNIST" in runs:
                parts.append(verdicts(runs["MNIST"]) + "\n")
            print("\n".join(parts[-1 - len(runs) :]), flush=True)
        if not options.no_speed:
            parts.append("## Cost\n\n" + speed(options) + "\n")
            print(parts[-1])
        where = environment(("skuq", "torch", "numpy", "scikit-learn"), seeds=options.seeds)
    if options.publish:
        options.publish.mkdir(parents=True, exist_ok=True)
        made = "\n".join(f"* {name}: {value}" for name, value in where.items())
        text = "\n".join(["# Novelty, measured\n", made + "\n", *parts])
        (options.publish / "measured.md").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
