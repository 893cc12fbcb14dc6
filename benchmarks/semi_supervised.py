"""Few labels: does the mean teacher help, and does its threshold?

    python -m benchmarks.semi_supervised [--data digits] [--seeds 10] [--publish FOLDER]

from the root of the repository. Three tasks: scikit-learn's digits with 50 labels of 1,200 rows, 64
principal components of Fashion-MNIST with 200 labels of 5,000 (``fashion_mnist_{train,test}.npz``
in the folder --images, by default `images` below $SKUQ_DATA, else below `../shared/data`), and
`skuq.datasets.make_shapes` with 20 of 400 images labelled. Four methods: the labelled rows only,
the mean teacher without a threshold and with the ramped one, and, for classifiers, scikit-learn's
`SelfTrainingClassifier` around the same network. All have MC dropout. Each run is a line in a file
below --folder, so an interrupted program goes on. Tables have means over seeds with standard
errors, and differences from the labelled rows only, paired by seed.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import ttest_1samp
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.semi_supervised import SelfTrainingClassifier
from torch import nn

from benchmarks.harness import torch_threads
from skuq import TorchClassifier, TorchSegmenter
from skuq.datasets import make_shapes
from skuq.metrics import (
    expected_calibration_error,
    mean_intersection_over_union,
    negative_log_likelihood,
)
from skuq.posteriors import MCDropout
from skuq.semi_supervised import MeanTeacher

SUPERVISED = "labelled rows only"
TEACHERS: dict[str, dict[str, Any]] = {
    "mean teacher, no threshold": {"uncertainty_threshold": None},
    "mean teacher, ramped threshold": {},
}
SELF_TRAINING = "SelfTrainingClassifier"
IGNORED = 255
Measured = dict[str, float]


class Task(NamedTuple):
    """Rows, of which some have a label, and the network for them."""

    X: np.ndarray
    y: np.ndarray  # of all rows
    labelled: np.ndarray  # their indices
    X_test: np.ndarray
    y_test: np.ndarray
    estimator: Any
    epochs_of_self_training: int = 0


def perceptron() -> nn.Module:
    """A multilayer perceptron for rows of 64 numbers, with dropout."""
    return nn.Sequential(
        nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10),
    )  # fmt: skip


def some_of_each_class(y: np.ndarray, n_each: int) -> np.ndarray:
    """Take the first rows of each class; the rows are shuffled."""
    return np.concatenate([np.flatnonzero(y == label)[:n_each] for label in np.unique(y)])


def classifier(seed: int, epochs: int) -> TorchClassifier:
    return TorchClassifier(
        perceptron, posterior=MCDropout(n_draws=20), lr=2e-3, max_epochs=epochs,
        early_stopping=False, batch_size=100, random_state=seed,
    )  # fmt: skip


def digits(seed: int, folder: Path) -> Task:
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(X))
    X, y = (X[order] / 16).astype(np.float32), y[order]
    labelled = some_of_each_class(y[:1200], 5)
    estimator = classifier(seed, 1000)
    return Task(X[:1200], y[:1200], labelled, X[1200:], y[1200:], estimator, 500)


def fashion_mnist(seed: int, folder: Path) -> Task:
    parts = []
    for name, n_rows in (("train", 5000), ("test", 2000)):
        with np.load(folder / f"fashion_mnist_{name}.npz") as file:
            some = np.random.default_rng(seed).permutation(len(file["y"]))[:n_rows]
            X = file["X"][some].reshape(n_rows, -1).astype(np.float32) / 255
            parts += [X, file["y"][some].astype(int)]
    X, y, X_test, y_test = parts
    plane = PCA(64, random_state=0).fit(X)  # which needs no labels
    X, X_test = (
        plane.transform(rows) / plane.explained_variance_[0] ** 0.5 for rows in (X, X_test)
    )
    estimator = classifier(seed, 500)
    return Task(X, y, some_of_each_class(y, 20), X_test, y_test, estimator, 150)


def shapes(seed: int, folder: Path) -> Task:
    train = make_shapes(400, size=24, random_state=2 * seed)
    test = make_shapes(200, size=24, random_state=2 * seed + 1)
    estimator = TorchSegmenter(
        module__base_width=8, module__depth=2, lr=3e-3, batch_size=10, max_epochs=300,
        ignore_label=IGNORED, posterior=MCDropout(n_draws=10), random_state=seed,
    )  # fmt: skip
    return Task(train.X, train.y, np.arange(20), test.X, test.y, estimator)


TASKS: dict[str, Callable[[int, Path], Task]] = {
    "digits": digits,
    "fashion-mnist": fashion_mnist,
    "shapes": shapes,
}
TITLES = {
    "digits": "Digits, 50 labels of 1,200 rows",
    "fashion-mnist": "Fashion-MNIST, 200 labels of 5,000 rows",
    "shapes": "Shapes, 20 labelled images of 400",
}


def fitted(method: str, task: Task) -> Any:
    """Train by a method; unlabelled rows are −1, or ignored in all pixels."""
    estimator, masks = task.estimator, task.y.ndim > 1
    if method == SUPERVISED:
        return estimator.fit(task.X[task.labelled], task.y[task.labelled])
    few = np.full_like(task.y, IGNORED if masks else -1)
    few[task.labelled] = task.y[task.labelled]
    if method == SELF_TRAINING:
        # Rows that it labels take part in the next fit: the more rows, the fewer epochs are needed.
        shorter = estimator.set_params(max_epochs=task.epochs_of_self_training)
        return SelfTrainingClassifier(shorter, threshold=0.9, max_iter=2).fit(task.X, few)
    return MeanTeacher(estimator, **TEACHERS[method]).fit(task.X, few)


def measured(method: str, task: Task) -> Measured:
    start = time.process_time()
    model = fitted(method, task)
    seconds = time.process_time() - start
    proba = model.predict_proba(task.X_test)
    if task.y.ndim > 1:
        labels = model.classes_[proba.argmax(axis=1)]
        flat = np.moveaxis(proba, 1, -1).reshape(-1, proba.shape[1])
        score = {"mean IoU": mean_intersection_over_union(task.y_test, labels)}
    else:
        labels, flat = model.classes_[proba.argmax(axis=1)], proba
        score = {"accuracy": float((labels == task.y_test).mean())}
    truth = task.y_test.ravel()
    return {
        **score,
        "NLL": negative_log_likelihood(truth, flat),
        "ECE": expected_calibration_error(truth, flat),
        "seconds": seconds,
    }


def methods_of(name: str) -> list[str]:
    plain = [SUPERVISED, *TEACHERS]
    return plain if name == "shapes" else [*plain, SELF_TRAINING]


def tables(runs: list[dict[str, Any]]) -> str:
    """Tables of all tasks. Differences are of the seeds that have both methods."""
    lines = []
    for name in TASKS:
        found: dict[str, dict[int, Measured]] = {method: {} for method in methods_of(name)}
        for run in runs:
            if run["task"] == name:
                found[run["method"]][run["seed"]] = run["measured"]
        if not found[SUPERVISED]:
            continue
        first, *rest = (key for key in next(iter(found[SUPERVISED].values())) if key != "seconds")
        head = ["seeds", first, f"difference of {first}", *rest, "time"]
        lines += [f"### {TITLES[name]}", "", f"| | {' | '.join(head)} |", "|---|" * (len(head) + 1)]
        lines[-1] = lines[-1].replace("||", "|")
        lines += [row(method, found, first, rest) for method, own in found.items() if own]
        lines.append("")
    return "\n".join(lines)


def row(method: str, found: dict[str, dict[int, Measured]], first: str, rest: list[str]) -> str:
    own, plain = found[method], found[SUPERVISED]
    both = [seed for seed in own if seed in plain]

    def with_error(values: list[float]) -> str:
        if len(values) < 2:
            return f"{values[0]:.4f}"
        return f"{np.mean(values):.4f} ± {np.std(values, ddof=1) / len(values) ** 0.5:.4f}"

    change = "—"
    if method != SUPERVISED and both:
        gains = [own[seed][first] - plain[seed][first] for seed in both]
        change = with_error(gains).replace("-", "−")
        if len(gains) > 2 and np.ptp(gains) > 1e-9:
            change += f", p = {ttest_1samp(gains, 0).pvalue:.2g}"
    ratio = np.mean([own[seed]["seconds"] / plain[seed]["seconds"] for seed in both])
    cells = [with_error([one[key] for one in own.values()]) for key in (first, *rest)]
    cells = [str(len(own)), cells[0], change, *cells[1:], f"{ratio:.1f} ×"]
    return f"| {method} | {' | '.join(cells)} |"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("SKUQ_DATA", Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--images", type=Path, default=Path(default) / "images")
    parser.add_argument("--data", choices=TASKS, action="append", help="all by default")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--epochs", type=int, help="passes over the labelled rows, of all methods")
    parser.add_argument("--folder", type=Path, default=Path("benchmarks/output/semi_supervised"))
    parser.add_argument("--publish", type=Path, help="a folder for the tables")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    path = options.folder / "runs.jsonl"
    text = path.read_text() if path.exists() else ""
    runs = [json.loads(line) for line in text.splitlines()]
    done = {(run["task"], run["seed"], run["method"]) for run in runs}
    chosen = options.data or list(TASKS)
    plan = [
        (name, seed, method)
        for self_training in (False, True)  # which takes longest
        for seed in range(options.seeds)
        for name in chosen
        for method in methods_of(name)
        if (method == SELF_TRAINING) == self_training
    ]
    with torch_threads(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, seed, method in plan:
            if (name, seed, method) in done:
                continue
            task = TASKS[name](seed, options.images)
            if options.epochs is not None:
                task.estimator.set_params(max_epochs=options.epochs)
                task = task._replace(epochs_of_self_training=options.epochs)
            found = measured(method, task)
            runs.append({"task": name, "seed": seed, "method": method, "measured": found})
            with path.open("a") as file:
                file.write(json.dumps(runs[-1]) + "\n")
            print(name, seed, method, found, flush=True)
    print(tables(runs))
    if options.publish:
        options.publish.mkdir(parents=True, exist_ok=True)
        (options.publish / "measured.md").write_text(tables(runs))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
