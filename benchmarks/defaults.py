"""How good are skuq's defaults? Tables, splits, peers and scores.

    python -m benchmarks.defaults --half choosing [--models skuq,mlp] [--tables boston,iris]
    python -m benchmarks.defaults --half choosing --settings "long=max_epochs:1000;lr:0.003"
    python -m benchmarks.defaults --half choosing --report

from the root of the repository. Each run, of a model on a split of a table, is written when it is
done, to a file below --folder; called again, the program makes only what is missing. `--report`
prints the tables of all runs that there are. ``--settings NAME=parameter:value;...`` runs skuq with
parameters other than its defaults, under that name; give it several times for several.
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.defaults_models import (
    LEVELS,
    MOST_ROWS,
    PEERS,
    Forecast,
    forecasts,
    probabilities,
    quiet,
)
from benchmarks.defaults_report import report
from benchmarks.defaults_tables import TABLES, Table
from benchmarks.harness import torch_threads
from skuq.metrics import expected_calibration_error, pinball_loss
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate

N_SPLITS = 5
POSTERIORS = {one.__name__: one for one in (DeepEnsemble, MCDropout, PointEstimate)}


def command_line() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="The defaults of skuq, beside peers.")
    parser.add_argument("--half", choices=("choosing", "confirming"), default="choosing")
    parser.add_argument("--tables", help="names with commas; all of the half by default")
    parser.add_argument("--models", default=",".join(["skuq", *PEERS]), help="names with commas")
    parser.add_argument("--settings", action="append", default=[], help="NAME=parameter:value;...")
    parser.add_argument("--splits", type=int, default=N_SPLITS)
    parser.add_argument("--folder", type=Path, default=Path("benchmarks/output/defaults"))
    parser.add_argument("--report", action="store_true", help="print the tables, run nothing")
    return parser


def parsed(settings: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Parameters of skuq by the name of a setting."""
    found: dict[str, dict[str, Any]] = {}
    for one in settings:
        name, _, pairs = one.partition("=")
        found[name] = {}
        for pair in pairs.split(";"):
            key, _, text = pair.partition(":")
            kind, _, number = text.partition(" ")
            if kind in POSTERIORS:
                found[name][key] = POSTERIORS[kind](*([int(number)] if number else []))
            else:
                found[name][key] = ast.literal_eval(text)
    return found


def of_regression(forecast: Forecast, y: np.ndarray) -> dict[str, float]:
    """Scores; the CRPS is twice the mean pinball loss over the levels, the same for every model."""
    quantile = forecast.quantiles
    inside = (quantile[:, 0] <= y) & (y <= quantile[:, -1])
    density = {} if forecast.nll is None else {"nll": forecast.nll(y)}
    return density | {
        "crps": 2 * float(np.mean([pinball_loss(y, q, level) for q, level in
                                   zip(quantile.T, LEVELS)])),
        "rmse": float(np.sqrt(np.mean((forecast.mean - y) ** 2))),
        "coverage": float(inside.mean()),
        "width": float(np.mean(quantile[:, -1] - quantile[:, 0])),
    }  # fmt: skip


def of_classification(proba: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Scores; the excess is over the calibration error of labels drawn from the probabilities."""
    proba = np.clip(proba, 1e-7, 1)
    proba /= proba.sum(1, keepdims=True)
    rng = np.random.default_rng(0)
    error = expected_calibration_error(y, proba)
    drawn = [
        expected_calibration_error((proba.cumsum(1) < rng.random((len(y), 1))).sum(1), proba)
        for _ in range(20)
    ]
    return {
        "log_loss": float(-np.log(proba[np.arange(len(y)), y]).mean()),
        "accuracy": float((proba.argmax(1) == y).mean()),
        "ece": float(error),
        "ece_excess": float(error - np.mean(drawn)),
    }


def run(table: Table, model: str, settings: dict[str, Any], split: int) -> dict[str, Any]:
    """Fit and score once."""
    X, y, X_test, y_test = table.split(split)
    fit: Any = forecasts if table.task == "regression" else probabilities
    score: Any = of_regression if table.task == "regression" else of_classification
    start = time.process_time()
    predict = fit(model, settings, split, X, y)
    fitted = time.process_time()
    answer = predict(X_test)
    predicted = time.process_time()
    scores = score(answer, y_test)
    times = {"fit_s": fitted - start, "predict_s": predicted - fitted}
    return {**scores, **times, "n_train": len(X), "n_features": X.shape[1]}


def main(arguments: Sequence[str] | None = None) -> int:
    options = command_line().parse_args(arguments)
    folder = options.folder / options.half
    tables = [table for table in TABLES.values() if table.half == options.half]
    if options.tables:
        tables = [table for table in tables if table.name in options.tables.split(",")]
    if options.report:
        print(report(folder, tables))
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    quiet()
    settings = parsed(options.settings)
    contenders = [(name, name, {}) for name in options.models.split(",") if name]
    contenders += [(name, "skuq", given) for name, given in settings.items()]
    with torch_threads(1):
        for table in filter(Table.exists, tables):
            for name, model, given in contenders:
                if len(table.make()[0]) > MOST_ROWS.get(model, 10**9):
                    continue
                for split in range(options.splits):
                    path = folder / f"{table.name}-{name}-{split}.json"
                    if path.exists():
                        continue
                    try:
                        record = run(table, model, given, split)
                    except ImportError as error:
                        print(f"{name} is left out: {error}", flush=True)
                        break
                    path.write_text(json.dumps({"model": name, "split": split, **record}) + "\n")
                    print(table.name, name, split, record, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
