"""Classifiers beside the public ones: no choice in `MatrixScaler` was made on them.

Images of MNIST and Fashion-MNIST, and two tables of UCI whose target is cut into classes of equal
size. Seeds are fixed; each takes some seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer, StandardScaler

Outputs = tuple[np.ndarray, np.ndarray]  # probabilities and labels


def others(data: Path) -> dict[str, Callable[[], Outputs]]:
    """Name and how to train it; empty where the folder has no data for it."""

    def perceptron(width: int, epochs: int) -> MLPClassifier:
        return MLPClassifier((width,), max_iter=epochs, random_state=0)

    found: dict[str, Callable[[], Outputs]] = {}
    images, tables = data / "images", data / "uci"
    if (images / "mnist_test.npz").exists() and (images / "fashion_mnist_test.npz").exists():
        found["MNIST, perceptron"] = lambda: _of_mnist(images, perceptron(100, 30))
        found["MNIST, logistic regression"] = lambda: _of_mnist(
            images, LogisticRegression(C=10.0, max_iter=200)
        )
        reduced = make_pipeline(PCA(50, random_state=0), LinearDiscriminantAnalysis())
        found["Fashion-MNIST, discriminants"] = lambda: _of_fashion(images, reduced)
        trees = ExtraTreesClassifier(100, min_samples_leaf=3, random_state=0)
        found["Fashion-MNIST, extra trees"] = lambda: _of_fashion(images, trees)
    if (tables / "kin8nm.npz").exists() and (tables / "naval-propulsion-plant.npz").exists():
        found["kin8nm, 5 classes, boosting"] = lambda: _of_table(
            tables / "kin8nm.npz", 5, HistGradientBoostingClassifier(max_iter=80, random_state=0)
        )
        found["naval, 8 classes, perceptron"] = lambda: _of_table(
            tables / "naval-propulsion-plant.npz", 8, perceptron(50, 100)
        )
    return found


def _images(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(path) as file:
        return file["X"].reshape(len(file["X"]), -1) / 255.0, file["y"].astype(int)


def _of_mnist(folder: Path, model: ClassifierMixin) -> Outputs:
    X, y = _images(folder / "mnist_test.npz")
    return model.fit(X[:2000], y[:2000]).predict_proba(X[2000:]), y[2000:]


def _of_fashion(folder: Path, model: ClassifierMixin) -> Outputs:
    X, y = _images(folder / "fashion_mnist_train.npz")
    model.fit(X[-8000:], y[-8000:])
    X, y = _images(folder / "fashion_mnist_test.npz")
    return model.predict_proba(X), y


def _of_table(path: Path, n_classes: int, model: ClassifierMixin) -> Outputs:
    with np.load(path) as file:
        X, y = file["X"].astype(float), file["y"].ravel()
    edges = np.quantile(y, np.arange(1, n_classes) / n_classes)
    labels, order = np.digitize(y, edges), np.random.default_rng(0).permutation(len(y))
    train, rest = order[:2000], order[2000:]
    pipeline = make_pipeline(QuantileTransformer(random_state=0), StandardScaler(), model)
    return pipeline.fit(X[train], labels[train]).predict_proba(X[rest]), labels[rest]
