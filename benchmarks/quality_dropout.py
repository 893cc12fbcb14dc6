"""MC dropout alone on tables of UCI, by the protocol with a grid that is published for it.

Gal & Ghahramani 2016, arXiv:1506.02142, and the grid of the code beside that paper: one hidden
layer of 50 ReLU, dropout before every layer, the input included; batches of 128, 4,000 epochs; rate
and precision of the noise from a grid, on a fifth of the training rows; 10,000 draws. The precision
changes the weight decay by less than 1e-6, so one network for each rate serves all of them. A run
is a split.

    python -m benchmarks.quality_dropout [--seeds 20] [--quick] [--publish FILE]
"""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import Any

import numpy as np
from scipy.special import logsumexp
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn

from benchmarks.quality_runs import (
    Scores,
    command,
    data_folder,
    of_run,
    runs_folder,
    spread,
    table,
    versions,
)
from benchmarks.quality_tables import rows_of
from skuq import TorchRegressor
from skuq.likelihoods import Gaussian
from skuq.posteriors import MCDropout

__all__ = ["TABLES", "dropout", "log_likelihood"]

TABLES = {"yacht": 20, "bostonHousing": 20, "energy": 20}
EPOCHS, N_DRAWS, LENGTHSCALE = 4000, 10_000, 1e-2
COLUMNS = ("RMSE", "published", "NLL", "published", "rates chosen", "fit, s")


class Dropout(nn.Sequential):
    """One hidden layer, and dropout before both layers."""

    def __init__(self, n_features: int, n_outputs: int, p: float) -> None:
        super().__init__(
            nn.Dropout(p), nn.Linear(n_features, 50), nn.ReLU(),
            nn.Dropout(p), nn.Linear(50, n_outputs),
        )  # fmt: skip


class SquaredError(Gaussian):
    """Normal noise whose level is not learnt: the grid has it."""

    wants_unseen_rows = False  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__(heteroscedastic=False)

    def finish(self, *args: Any, **kwargs: Any) -> None:
        """Leave the noise as it is."""


def dropout(n_splits: int, quick: bool) -> str:
    """Run what is missing, split by split, and return the table of all data sets."""
    epochs = 4 if quick else EPOCHS
    rows = {}
    for name, n in TABLES.items():
        path = data_folder() / "uci" / f"{name}.npz"
        if not path.exists():
            return f"Skipped: there is no {path}; set SKUQ_DATA.\n"
        found = []
        for split in range(min(n, n_splits)):
            run = runs_folder() / "dropout" / f"{epochs} {name} {split}.json"
            found.append(of_run(run, partial(_scores, name, split, epochs)))
        with np.load(path) as file:
            published = file["gal_test_MC_rmse"][: len(found)], -file["gal_test_ll"][: len(found)]
        rows[f"{name}, {len(found)} splits"] = _cells(found, published)
    head = (
        f"{epochs:,} epochs, batches of 128, {N_DRAWS:,} draws; rates of 0.005, 0.01, 0.05, "
        "0.1. The seed is the number of the split; ± is the standard error over splits, which "
        "overlap. Published: on the same splits. Fit: the median CPU time of the last network. "
        f"{versions()}"
    )
    return f"# MC dropout by its grid, measured\n\n{head}\n\n{table(COLUMNS, rows)}"


def _cells(found: list[Scores], published: tuple[np.ndarray, np.ndarray]) -> list[str]:
    rates, counts = np.unique([run["rate"] for run in found], return_counts=True)
    return [
        spread(run["rmse"] for run in found),
        spread(published[0]),
        spread(run["nll"] for run in found),
        spread(published[1]),
        ", ".join(f"{rate:g}: {count}" for rate, count in zip(rates, counts)),
        f"{np.median([run['fit'] for run in found]):.0f}",
    ]


def _scores(name: str, split: int, epochs: int) -> Scores:
    with np.load(data_folder() / "uci" / f"{name}.npz") as file:
        rates, precisions = file["gal_dropout_rates"], file["gal_tau_values"]
    X, y, X_test, y_test = rows_of(name, split)
    X_own, X_val, y_own, y_val = train_test_split(X, y, test_size=0.2, random_state=split)
    grid: dict[tuple[float, float], float] = {}
    for rate in rates:
        draws = _fitted(X_own, y_own, rate, precisions.mean(), split, epochs)(X_val)
        for precision in precisions:
            grid[rate, precision] = log_likelihood(draws, y_val, precision)
    rate, precision = max(grid, key=lambda one: grid[one])
    start = time.process_time()
    predict = _fitted(X, y, rate, precision, split, epochs)
    seconds = time.process_time() - start
    draws = predict(X_test)
    return {
        "rmse": float(np.sqrt(np.mean((draws.mean(0) - y_test) ** 2))),
        "nll": -log_likelihood(draws, y_test, precision),
        "rate": float(rate),
        "precision": float(precision),
        "fit": seconds,
    }


def _fitted(X: Any, y: Any, rate: float, precision: float, seed: int, epochs: int) -> Any:
    """Return a function of rows: draws, of shape (n_draws, n_rows)."""
    network = TorchRegressor(
        Dropout,
        module__p=float(rate),
        posterior=MCDropout(N_DRAWS),
        likelihood=SquaredError(),
        optimizer__weight_decay=LENGTHSCALE**2 * (1 - rate) / (len(X) * precision),
        lr=1e-3,
        batch_size=128,
        max_epochs=epochs,
        random_state=seed,
    )
    scaler = StandardScaler().fit(X)
    network.fit(scaler.transform(X), y)
    return lambda rows: network.predict_draws(scaler.transform(rows))[:, :, 0]


def log_likelihood(draws: np.ndarray, y: np.ndarray, precision: float) -> float:
    """Return the mean log density of targets under the mixture of all draws, in nats."""
    exponent = -0.5 * precision * (y - draws) ** 2
    constant = 0.5 * np.log(precision / (2 * np.pi)) - np.log(len(draws))
    return float(logsumexp(exponent, axis=0).mean() + constant)


if __name__ == "__main__":
    sys.exit(command(dropout, n_seeds=20))
