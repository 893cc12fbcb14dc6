"""Which uncertainty finds strange images, and which finds mistakes?

    python -m benchmarks.strange_images [--seeds 5] [--rows 2000]

from the root of the repository. The default classifier learns Fashion-MNIST. Its total and its
epistemic uncertainty should separate images of MNIST, and its own mistakes, from images that it
classifies well: areas under the ROC curve, means over the seeds, and their standard errors.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skuq
from benchmarks.harness import torch_threads

IMAGES = Path(os.environ.get("SKUQ_DATA", "../shared/data")) / "images"
KINDS = ("total", "epistemic")


def images(name: str, n_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Choose images of a file, as rows of numbers from 0 to 1, and their classes."""
    with np.load(IMAGES / f"{name}.npz") as stored:
        X, y = stored["X"], stored["y"]
    chosen = np.random.default_rng(seed).permutation(len(X))[:n_rows]
    return X[chosen].reshape(len(chosen), -1) / 255, y[chosen]


def areas(seed: int, n_rows: int) -> dict[str, float]:
    """Train once; return accuracy and areas."""
    X, y = images("fashion_mnist_train", n_rows, seed)
    known, labels = images("fashion_mnist_test", n_rows, seed)
    strange, _ = images("mnist_test", n_rows, seed)
    model = make_pipeline(StandardScaler(), skuq.TorchClassifier(random_state=seed)).fit(X, y)
    wrong = model.predict(known) != labels
    found = {"accuracy": float(1 - wrong.mean())}
    is_strange = np.repeat([0, 1], [len(known), len(strange)])
    for kind in KINDS:
        of_known = skuq.predict_uncertainty(model, known, kind=kind)
        of_strange = skuq.predict_uncertainty(model, strange, kind=kind)
        both = np.concatenate([of_known, of_strange])
        found[f"MNIST, {kind}"] = float(roc_auc_score(is_strange, both))
        found[f"mistakes, {kind}"] = float(roc_auc_score(wrong, of_known))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Strange images and mistakes.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=2000)
    options = parser.parse_args(arguments)
    with torch_threads(1):
        runs = [areas(seed, options.rows) for seed in range(options.seeds)]
    for name in runs[0]:
        values = np.array([run[name] for run in runs])
        error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
        print(f"{name:20s} {values.mean():.3f} ± {error:.3f}  ({values.min():.3f} least)")


if __name__ == "__main__":
    main()
