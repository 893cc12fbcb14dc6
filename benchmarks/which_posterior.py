"""Which posterior? All of them side by side on small data, with the cost of each.

`which-tables` trains on small tables of UCI, `which-digits` on 300 digits, `which-gap` on a cubic
curve. Scores are means over splits or seeds with their standard error; costs are ratios to the
point estimate in the same run. ``SKUQ_DATA`` is the folder of the data.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn

from benchmarks.harness import Line, Report
from benchmarks.posteriors import data_folder
from skuq import TorchClassifier, TorchRegressor
from skuq.exceptions import DivergedError
from skuq.metrics import area_under_risk_coverage, expected_calibration_error, nll_scorer
from skuq.modules import MLP, ConcreteDropout
from skuq.posteriors import (
    SGMCMC,
    SWAG,
    DeepEnsemble,
    LastLayerLaplace,
    MCDropout,
    PointEstimate,
    Posterior,
    SnapshotEnsemble,
    Variational,
)

__all__ = ["POSTERIORS", "digits", "gap", "tables"]

POSTERIORS: dict[str, Posterior] = {
    "PointEstimate()": PointEstimate(),
    "MCDropout()": MCDropout(),
    "DeepEnsemble()": DeepEnsemble(),
    "DeepEnsemble(adversarial=0.01)": DeepEnsemble(adversarial=0.01),
    "LastLayerLaplace()": LastLayerLaplace(),
    "SWAG()": SWAG(),
    "SWAG(scale=0)": SWAG(scale=0.0),
    "SnapshotEnsemble()": SnapshotEnsemble(),
    "SGMCMC()": SGMCMC(),
    "SGMCMC(lr=0.01)": SGMCMC(lr=0.01),
    "SGMCMC(lr=0.01, temperature=0.1)": SGMCMC(lr=0.01, temperature=0.1),
    "Variational()": Variational(),
    "Variational(kl_weight=1)": Variational(kl_weight=1.0),
}
CONTROL = "PointEstimate(), epochs doubled"
LEARNT = "MCDropout() of ConcreteDropout"
TABLES = {"bostonHousing": 80, "energy": 55, "yacht": 130}  # and the epochs of training
N_SEEDS = 5
Scores = dict[str, float]


class WithLearntRates(MLP):
    """The default network with `ConcreteDropout` in all layers but the first."""

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        hidden_layer_sizes: Any,
        dropout: float = 0.0,
        activation: str = "silu",
    ) -> None:
        super().__init__(n_features, n_outputs, hidden_layer_sizes, activation=activation)
        _, *later = (k for k, layer in enumerate(self) if isinstance(layer, nn.Linear))
        for k in later:
            self[k] = ConcreteDropout(self[k])  # type: ignore[arg-type]


def contenders(options: dict[str, Any]) -> dict[str, tuple[Posterior, dict[str, Any]]]:
    """Each posterior with the options of its estimator."""
    dropout = options.pop("of_dropout")
    found = {name: (posterior, options) for name, posterior in POSTERIORS.items()}
    found["MCDropout()"] = (POSTERIORS["MCDropout()"], {**options, "module__dropout": dropout})
    found[LEARNT] = (POSTERIORS["MCDropout()"], {**options, "module": WithLearntRates})
    longer = {**options, "max_epochs": 2 * options["max_epochs"]}
    return {**found, CONTROL: (PointEstimate(), longer)}


def measured(fit: Callable[[], Any], score: Callable[[Any], Scores]) -> Scores:
    start = time.process_time()
    model = fit()
    after_fit = time.process_time()
    scores = score(model)
    return {**scores, "fit": after_fit - start, "predict": _time_of_predict(model)}


def _time_of_predict(model: Any) -> float:
    """The least of three times, in seconds of this process."""
    times = []
    for _ in range(3):
        start = time.process_time()
        model.predict_uncertainty(model.rows_to_predict)
        times.append(time.process_time() - start)
    return min(times)


def write(report: Report, table: str, found: dict[str, list[Scores]]) -> None:
    """Means and standard errors of scores, and ratios of costs, one line for each posterior."""
    base = found["PointEstimate()"]
    for name, runs in found.items():
        texts = []
        for score in runs[0]:
            values = np.array([run[score] for run in runs])
            if score in ("fit", "predict"):
                ratio = float(np.median(values / [run[score] for run in base]))
                report.lines.append(Line(table, f"{name}, {score}, ratio", ratio, "value", None))
                texts.append(f"{score} ×{ratio:.1f}")
                continue
            mean, error = values.mean(), values.std(ddof=1) / len(values) ** 0.5
            report.lines.append(Line(table, f"{name}, {score}", float(mean), "value", None))
            texts.append(f"{score} {mean:.3f} ± {error:.3f}")
        report.remark(table, f"{name}: " + ", ".join(texts))


def run_all(
    report: Report,
    table: str,
    options: dict[str, Any],
    seeds: range,
    one: Callable[[Posterior, dict[str, Any], int], Scores],
) -> None:
    found: dict[str, list[Scores]] = {}
    for seed in seeds:
        for name, (posterior, own) in contenders(dict(options)).items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that training has not converged, for example
                try:
                    found.setdefault(name, []).append(one(clone(posterior), own, seed))
                except DivergedError:
                    report.remark(table, f"{name}: training diverged with seed {seed}")
    whole = {name: runs for name, runs in found.items() if len(runs) == len(seeds)}
    write(report, table, whole)


# ---------------------------------------------------------------------------------------------
# Tables of UCI


def tables(report: Report) -> None:
    n_splits = report.sized(N_SEEDS, 2)
    for name, epochs in TABLES.items():
        path = data_folder().parent / "uci" / f"{name}.npz"
        title = f"{name}, one hidden layer of 50, {n_splits} splits"
        if not path.exists():
            report.remark(title, f"skipped: there is no {path}; set SKUQ_DATA")
            continue
        options = {
            "module__hidden_layer_sizes": (50,), "module__dropout": 0.0, "of_dropout": 0.05,
            "lr": 0.01, "batch_size": 32, "max_epochs": report.sized(epochs, 2),
        }  # fmt: skip

        def one(posterior: Posterior, own: dict[str, Any], seed: int, path: Path = path) -> Scores:
            return _on_table(path, posterior, own, seed)

        run_all(report, title, options, range(n_splits), one)


def _on_table(path: Path, posterior: Posterior, options: dict[str, Any], split: int) -> Scores:
    with np.load(path) as file:
        X, y, is_test = file["X"], file["y"], file["test_mask"][split].astype(bool)
    X = StandardScaler().fit(X[~is_test]).transform(X)
    network = TorchRegressor(posterior=posterior, random_state=split, **options)

    def fit() -> Any:
        network.fit(X[~is_test], y[~is_test])
        network.rows_to_predict = X
        return network

    def score(model: TorchRegressor) -> Scores:
        mean = model.predict(X[is_test])
        return {
            "RMSE": float(np.sqrt(np.mean((mean - y[is_test]) ** 2))),
            "NLL": _nll(model, X[is_test], y[is_test]),
        }

    return measured(fit, score)


def _nll(model: TorchRegressor, X: np.ndarray, y: np.ndarray) -> float:
    """The mean negative log density of the mixture of all draws."""
    return -float(nll_scorer(model, X, y))


# ---------------------------------------------------------------------------------------------
# Digits


def digits(report: Report) -> None:
    n_seeds = report.sized(N_SEEDS, 2)
    options = {
        "module__hidden_layer_sizes": (64, 32), "module__dropout": 0.1, "of_dropout": 0.4,
        "lr": 3e-3, "batch_size": 32, "max_epochs": report.sized(100, 2),
    }  # fmt: skip
    title = f"300 digits, hidden layers of 64 and 32, {n_seeds} seeds"
    run_all(report, title, options, range(n_seeds), _on_digits)


def _on_digits(posterior: Posterior, options: dict[str, Any], seed: int) -> Scores:
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    X, X_test, y, y_test = train_test_split(X, y, train_size=300, random_state=seed, stratify=y)
    network = TorchClassifier(posterior=posterior, random_state=seed, **options)

    def fit() -> Any:
        network.fit(X, y)
        network.rows_to_predict = X_test
        return network

    def score(model: TorchClassifier) -> Scores:
        proba = model.predict_proba(X_test)
        guess = proba.argmax(1)
        strange = halves(X_test, y_test)
        is_strange = np.repeat([0, 1], [len(X_test), len(strange)])
        parts = model.predict_uncertainty(np.concatenate([X_test, strange]), kind="all")
        of_digits = parts.total[: len(X_test)]
        return {
            "accuracy": float((guess == y_test).mean()),
            "NLL": log_loss(y_test, proba),
            "ECE": expected_calibration_error(y_test, proba),
            "AURC": area_under_risk_coverage(y_test, guess, of_digits),
            "AUROC of halves, total": float(roc_auc_score(is_strange, parts.total)),
            "AUROC of halves, epistemic": float(roc_auc_score(is_strange, parts.epistemic)),
        }

    return measured(fit, score)


def halves(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Left halves of digits beside right halves of digits of another class."""
    other = np.random.default_rng(0).permutation(len(X))
    images = X.reshape(-1, 8, 8)
    joined = np.concatenate([images[:, :, :4], images[other][:, :, 4:]], axis=2)
    return joined.reshape(-1, 64)[y != y[other]]


# ---------------------------------------------------------------------------------------------
# A cubic curve


def gap(report: Report) -> None:
    """The epistemic deviation far from the data, over that among them."""
    n_seeds = report.sized(N_SEEDS, 2)
    table = f"y = x³ + 3 ε on 20 points in [−4, 4], {n_seeds} seeds"
    options = {
        "module__hidden_layer_sizes": (50,), "module__dropout": 0.0, "of_dropout": 0.05,
        "lr": 0.01, "batch_size": 10, "max_epochs": report.sized(300, 2),
    }  # fmt: skip

    def one(posterior: Posterior, own: dict[str, Any], seed: int) -> Scores:
        random = np.random.default_rng(seed)
        x = random.uniform(-4, 4, size=(20, 1))
        y = x[:, 0] ** 3 + 3 * random.normal(size=20)
        model = TorchRegressor(posterior=posterior, random_state=seed, **own).fit(x, y)
        spread = model.predict_uncertainty(np.array([[-6.0], [0.0], [6.0]]), kind="epistemic")
        left, middle, right = np.sqrt(spread)
        return {"at 0": middle, "at ±6": (left + right) / 2, "wider outside": float(
            min(left, right) > middle), "fit": 1.0, "predict": 1.0}  # fmt: skip

    run_all(report, table, options, range(n_seeds), one)
