"""The tables on which skuq's defaults are chosen, and those on which the choice is confirmed.

The halves were fixed before anything was measured. Settings are compared on the choosing half only;
the confirming half is run once, with what was chosen.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import datasets
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit

__all__ = ["TABLES", "Table"]

UCI = Path(os.environ.get("SKUQ_DATA", "../shared/data")) / "uci"
TEST_SHARE = 0.2
MOST_ROWS = 2500  # of a UCI table: peers that fit one model for each quantile take long


@dataclass(frozen=True)
class Table:
    """Rows and targets, and how they are split.

    Attributes
    ----------
    name : str
    task : {"regression", "classification"}
    half : {"choosing", "confirming"}
    make : callable
        Returns X and y.
    """

    name: str
    task: str
    half: str
    make: Callable[[], tuple[np.ndarray, np.ndarray]]

    def exists(self) -> bool:
        try:
            self.make()
        except FileNotFoundError:
            return False
        return True

    def split(self, number: int) -> tuple[Any, Any, Any, Any]:
        """X and y of training, X and y of test; classes have the same shares in both."""
        X, y = self.make()
        kind = ShuffleSplit if self.task == "regression" else StratifiedShuffleSplit
        splitter = kind(n_splits=1, test_size=TEST_SHARE, random_state=number)
        ((train, test),) = splitter.split(X, y)
        return X[train], y[train], X[test], y[test]


def _uci(name: str) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
    def make() -> tuple[np.ndarray, np.ndarray]:
        with np.load(UCI / f"{name}.npz") as stored:
            X, y = stored["X"].astype(np.float64), stored["y"]
        chosen = np.random.default_rng(0).permutation(len(X))[:MOST_ROWS]
        return X[chosen], y[chosen]

    return make


def _bundled(load: Callable[..., Any]) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
    return lambda: load(return_X_y=True)


def _friedman(number: int, noise: float) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
    make = getattr(datasets, f"make_friedman{number}")
    return lambda: make(n_samples=1000, noise=noise, random_state=0)


def _smooth(X: np.ndarray) -> np.ndarray:
    return np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2] + 0.5 * np.abs(X[:, 3])


def _heteroscedastic() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 6))
    return X, _smooth(X) + 0.1 * np.exp(X[:, 4]) * rng.normal(size=len(X))


def _heavy_tailed() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(2000, 6))
    return X, _smooth(X) + 0.3 * rng.standard_t(3, size=len(X))


def _multiplicative() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    X = rng.normal(size=(2000, 6))
    return X, np.exp(1 + _smooth(X) / 2 + 0.3 * rng.normal(size=len(X)))


def _tiny() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    X = rng.normal(size=(50, 3))
    return X, X[:, 0] + np.sin(2 * X[:, 1]) + 0.3 * rng.normal(size=len(X))


def _wide() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    X = rng.normal(size=(100, 200))
    return X, X[:, :5].sum(1) + 0.5 * rng.normal(size=len(X))


def _large() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    X = rng.normal(size=(100_000, 10))
    noise = 0.2 + 0.3 / (1 + np.exp(-2 * X[:, 5]))
    return X, _smooth(X) + np.cos(X[:, 6] + X[:, 7]) + noise * rng.normal(size=len(X))


def _counts() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(6)
    X = rng.normal(size=(2000, 6))
    return X, rng.poisson(np.exp(0.5 + _smooth(X) / 2)).astype(np.float64)


def _imbalanced() -> tuple[np.ndarray, np.ndarray]:
    return datasets.make_classification(
        n_samples=2000, n_features=10, n_informative=5, weights=[0.9], flip_y=0.02, random_state=7
    )


def _label_noise() -> tuple[np.ndarray, np.ndarray]:
    X, y = datasets.make_classification(
        n_samples=2000, n_features=10, n_informative=6, n_classes=4, flip_y=0, random_state=8
    )
    rng = np.random.default_rng(8)
    return X, np.where(rng.random(len(y)) < 0.2, rng.integers(4, size=len(y)), y)


def _tables(
    task: str, half: str, **makers: Callable[[], tuple[np.ndarray, np.ndarray]]
) -> dict[str, Table]:
    return {name: Table(name, task, half, make) for name, make in makers.items()}


TABLES: dict[str, Table] = {
    **_tables(
        "regression",
        "choosing",
        boston=_uci("bostonHousing"),
        energy=_uci("energy"),
        kin8nm=_uci("kin8nm"),
        diabetes=_bundled(datasets.load_diabetes),
        friedman1=_friedman(1, noise=1.0),
        heteroscedastic=_heteroscedastic,
        heavy_tailed=_heavy_tailed,
        tiny=_tiny,
    ),
    **_tables(
        "classification",
        "choosing",
        iris=_bundled(datasets.load_iris),
        digits=_bundled(datasets.load_digits),
        imbalanced=_imbalanced,
    ),
    **_tables(
        "regression",
        "confirming",
        yacht=_uci("yacht"),
        naval=_uci("naval-propulsion-plant"),
        friedman2=_friedman(2, noise=50.0),
        friedman3=_friedman(3, noise=0.1),
        multiplicative=_multiplicative,
        wide=_wide,
        large=_large,
        counts=_counts,
    ),
    **_tables(
        "classification",
        "confirming",
        wine=_bundled(datasets.load_wine),
        breast_cancer=_bundled(datasets.load_breast_cancer),
        label_noise=_label_noise,
    ),
}
