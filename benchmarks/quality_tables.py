"""Every posterior, the defaults and other packages on tables of UCI, with their standard splits.

The protocol of Deep Ensembles: one hidden layer of 50 ReLU, 40 epochs; a network for each of the
given splits, 20 of them, 3 for the two large tables. The defaults and the other packages are free
to do what they do. A run is a contender on a split.

    python -m benchmarks.quality_tables [--seeds 20] [--quick] [--publish FILE]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.defaults import of_regression
from benchmarks.defaults_models import Forecaster, forecasts, of_skuq, quiet
from benchmarks.quality_runs import (
    Scores,
    command,
    data_folder,
    in_code,
    of_run,
    runs_folder,
    spread,
    table,
    versions,
)
from benchmarks.which_posterior import contenders
from skuq import TorchRegressor

__all__ = ["TABLES", "rows_of", "tables"]

TABLES = {"bostonHousing": 20, "energy": 20, "yacht": 20, "kin8nm": 3, "naval-propulsion-plant": 3}
MOST_ROWS = {"gp": 2000}  # a Gaussian process takes time cubic in them
PEERS = {
    "gp": "Gaussian process",
    "boosting": "histogram boosting, 19 quantiles",
    "ngboost": "NGBoost",
    "catboost": "CatBoost",
}
DEFAULTS = "TorchRegressor()"
OPTIONS: dict[str, Any] = {
    "module__hidden_layer_sizes": (50,),
    "module__activation": "relu",
    "module__dropout": 0.0,
    "of_dropout": 0.05,
    "lr": 0.01,
    "batch_size": 32,
    "max_epochs": 40,
}
PUBLISHED = {  # RMSE and NLL; Lakshminarayanan et al. 2017, Table 1, arXiv:1612.01474
    "published, deep ensemble of five": {
        "bostonHousing": ("3.28", "2.41"), "energy": ("2.09", "1.38"), "yacht": ("1.58", "1.18"),
        "kin8nm": ("0.09", "-1.20"), "naval-propulsion-plant": ("0.00", "-5.63"),
    },
    "published, MC dropout of 2016": {
        "bostonHousing": ("2.97", "2.46"), "energy": ("1.66", "1.99"), "yacht": ("1.11", "1.55"),
        "kin8nm": ("0.10", "-0.95"), "naval-propulsion-plant": ("0.01", "-3.80"),
    },
}  # fmt: skip
SCORES = {"rmse": "RMSE", "nll": "NLL", "crps": "CRPS", "coverage": "90 % intervals hold",
          "width": "their width", "fit": "fit, s"}  # fmt: skip


def tables(n_splits: int, quick: bool) -> str:
    """Run what is missing, split by split, and return a table for each data set."""
    quiet()
    found = [_table(name, min(n, n_splits), quick) for name, n in TABLES.items()]
    return "\n".join([f"{_head()}\n", *found])


def rows_of(name: str, split: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return X and y of training, X and y of the test."""
    with np.load(data_folder() / "uci" / f"{name}.npz") as file:
        X, y, is_test = file["X"], file["y"], file["test_mask"][split].astype(bool)
    return X[~is_test], y[~is_test], X[is_test], y[is_test]


def _table(name: str, n_splits: int, quick: bool) -> str:
    if not (data_folder() / "uci" / f"{name}.npz").exists():
        return f"## {name}\n\nSkipped: there is no {data_folder() / 'uci'}; set SKUQ_DATA.\n"
    found: dict[str, list[Scores]] = {}
    for split in range(n_splits):
        for contender, fit in _contenders(name, quick).items():
            path = runs_folder() / f"tables{'-quick' * quick}" / f"{name} {contender} {split}.json"
            try:
                scores = of_run(path, partial(_scores, fit, name, split))
            except ImportError as error:
                print(f"{contender} is left out: {error}", flush=True)
                continue
            found.setdefault(contender, []).append(scores)
    return _markdown(name, {key: runs for key, runs in found.items() if len(runs) == n_splits})


def _contenders(name: str, quick: bool) -> dict[str, Callable[[int, Any, Any], Forecaster]]:
    options = {**OPTIONS, "max_epochs": 2} if quick else dict(OPTIONS)
    found: dict[str, Any] = {
        key: partial(_posterior, posterior, own)
        for key, (posterior, own) in contenders(options).items()
    }
    found[DEFAULTS] = partial(forecasts, "skuq", {"max_epochs": 2} if quick else {})
    n_rows = len(rows_of(name, 0)[0])
    for peer in PEERS:
        if n_rows <= MOST_ROWS.get(peer, n_rows):
            found[peer] = partial(forecasts, peer, {})
    return found


def _posterior(posterior: Any, options: dict[str, Any], seed: int, X: Any, y: Any) -> Forecaster:
    network = TorchRegressor(posterior=clone(posterior), random_state=seed, **options)
    return of_skuq(make_pipeline(StandardScaler(), network).fit(X, y))


def _scores(fit: Callable[[int, Any, Any], Forecaster], name: str, split: int) -> Scores:
    X, y, X_test, y_test = rows_of(name, split)
    start = time.process_time()
    predict = fit(split, X, y)
    seconds = time.process_time() - start
    return of_regression(predict(X_test), y_test) | {"fit": seconds}


def _markdown(name: str, found: dict[str, list[Scores]]) -> str:
    tiny = name == "naval-propulsion-plant"
    rows: dict[str, list[str]] = {}
    for contender, runs in found.items():
        title = PEERS.get(contender, in_code(contender))
        if not all(runs):
            rows[title] = ["diverged", *["–"] * (len(SCORES) - 1)]
            continue
        digits = {key: 5 if tiny and key in ("rmse", "crps", "width") else 3 for key in SCORES}
        rows[title] = [
            spread((run.get(key, np.nan) for run in runs), digits[key]) for key in SCORES
        ]
        rows[title][-1] = f"{np.median([run['fit'] for run in runs]):.2g}"
    for title, by_name in PUBLISHED.items():
        rows[title] = [*by_name[name], *["–"] * (len(SCORES) - 2)]
    n_splits = len(next(iter(found.values())))
    return f"## {name}, {n_splits} splits\n\n{table(list(SCORES.values()), rows)}"


def _head() -> str:
    packages = ("skuq", "torch", "scikit-learn", "skorch", "numpy", "ngboost", "catboost")
    return (
        "# Tables of UCI, measured\n\n"
        "One hidden layer of 50 ReLU, 40 epochs, Adam, batches of 32, learning rate 0.01, dropout "
        "0.05 for `MCDropout` and 0 otherwise; the other packages and `TorchRegressor()` as they "
        "come. The seed is the number of the split; ± is the standard error over splits, which "
        "overlap. NLL is that of the mixture of all draws in nats, the CRPS twice the mean pinball "
        "loss over 19 levels, fit the median CPU time; the RMSE of boosting is that of its median. "
        f"{versions(packages)}"
    )


if __name__ == "__main__":
    sys.exit(command(tables, n_seeds=20))
