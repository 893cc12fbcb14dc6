"""Costs of queries on a pool of 50,000 rows, beside a prediction of the same rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.harness import Bar, Report, check, median_and_quartiles
from benchmarks.models import table_data
from skuq import TorchClassifier, predict_draws
from skuq.active_learning import (
    badge,
    bald,
    batch_bald,
    core_set,
    egl_plus_plus,
    entropy,
    expected_gradient_length,
    margin,
)
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate

QUERIES = {
    "entropy": (entropy, 1.3),
    "margin": (margin, 1.3),
    "BALD": (bald, 1.3),
    "EGL, last layer": (expected_gradient_length, 1.5),
}


def scores(report: Report) -> None:
    n_rows = report.sized(50_000, 2000)
    X, _ = table_data(n_rows, seed=1)
    for posterior in (PointEstimate(), MCDropout(20), DeepEnsemble(5)):
        fitted = _fitted(posterior)
        check("probabilities and margins", margin(fitted, X), _margin(fitted, X), 1e-6)
        contenders: dict[str, Any] = {
            "predict_proba": lambda fitted=fitted: fitted.predict_proba(X)
        }
        for name, (query, _) in QUERIES.items():
            contenders[name] = lambda query=query, fitted=fitted: query(fitted, X)
        bars = [Bar(name, "predict_proba", most) for name, (_, most) in QUERIES.items()]
        report.time(f"queries of {n_rows:,} rows, {posterior}, default network", contenders, bars)


def batches(report: Report) -> None:
    n_rows, n = report.sized(50_000, 2000), report.sized(100, 10)
    table = f"batches of {n} from {n_rows:,} rows"
    random = np.random.default_rng(0)
    features, labelled = random.normal(size=(n_rows, 128)), random.normal(size=(500, 128))
    X, _ = table_data(n_rows, seed=1)
    fitted = _fitted(MCDropout(20))
    jobs = {
        "core-set on 128 features, 500 labelled": lambda: core_set(features, labelled, n),
        "BADGE": lambda: badge(fitted, X, n, random_state=0),
        "BatchBALD, 10 of the best 500": lambda: batch_bald(
            predict_draws(fitted, X), 10, random_state=0
        ),
        "EGL++, 500 labelled": lambda: egl_plus_plus(fitted, X, X[:500]),
    }
    for name, job in jobs.items():
        seconds = []
        for _ in range(3):
            start = report.clock()
            job()
            seconds.append(report.clock() - start)
        report.seconds(table, name, median_and_quartiles(seconds), 10.0)


def _fitted(posterior: Any) -> TorchClassifier:
    options = {"max_epochs": 2, "device": "cpu", "random_state": 0}
    return TorchClassifier(posterior=posterior, **options).fit(*table_data(1000))


def _margin(fitted: TorchClassifier, X: np.ndarray) -> np.ndarray:
    largest = np.sort(fitted.predict_proba(X), axis=1)
    return 1 - largest[:, -1] + largest[:, -2]
