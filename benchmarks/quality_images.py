"""Every posterior on all images of Fashion-MNIST: a small LeNet, MNIST as what is strange.

55,000 images train, 5,000 fit a temperature, the 10,000 of the test are scored, before and after.
A run is a posterior with a seed.

    python -m benchmarks.quality_images [--seeds 3] [--quick] [--publish FILE]
"""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss, roc_auc_score

from benchmarks.quality_runs import (
    Scores,
    command,
    data_folder,
    in_code,
    of_run,
    ratio,
    runs_folder,
    spread,
    table,
    versions,
)
from benchmarks.which_images import LeNet, read
from benchmarks.which_posterior import CONTROL, LEARNT, POSTERIORS
from skuq import TorchClassifier
from skuq.calibration import TemperatureScaler
from skuq.metrics import area_under_risk_coverage, expected_calibration_error
from skuq.posteriors import DeepEnsemble, PointEstimate, Posterior

__all__ = ["CONTENDERS", "images"]

N_CALIBRATION, N_TIMED, EPOCHS, BATCH_SIZE = 5000, 1000, 10, 128
CONTENDERS: dict[str, Posterior] = {
    "PointEstimate()": PointEstimate(),
    CONTROL: PointEstimate(),
    "MCDropout()": POSTERIORS["MCDropout()"],
    LEARNT: POSTERIORS["MCDropout()"],
    "LastLayerLaplace()": POSTERIORS["LastLayerLaplace()"],
    "DeepEnsemble()": DeepEnsemble(),
    "SnapshotEnsemble()": POSTERIORS["SnapshotEnsemble()"],
    "SWAG()": POSTERIORS["SWAG()"],
    "SWAG(scale=0)": POSTERIORS["SWAG(scale=0)"],
    "Variational()": POSTERIORS["Variational()"],
    "SGMCMC()": POSTERIORS["SGMCMC()"],
    "DeepEnsemble(n_members=10)": DeepEnsemble(n_members=10),
}
# From uncertainty-baselines, for a LeNet5 that is not quite this network.
PUBLISHED = {
    "published, one network": ("0.910", "0.321", "–"),
    "published, ensemble of ten": ("0.932", "0.200", "0.010"),
    "published, variational": ("0.895", "0.292", "0.011"),
}
COLUMNS = (
    "accuracy", "NLL", "ECE", "NLL, scaled", "ECE, scaled", "AURC", "AURC, scaled",
    "AUROC of MNIST, epistemic", "the same, total", "fit", "predict",
)  # fmt: skip


def images(n_seeds: int, quick: bool) -> str:
    """Run what is missing, seed by seed, and return the table of the seeds that are complete."""
    if not (data_folder() / "images").is_dir():
        return f"Skipped: there is no {data_folder() / 'images'}; set SKUQ_DATA.\n"
    n, epochs = (600, 1) if quick else (60_000, EPOCHS)
    found: dict[str, list[Scores]] = {}
    for seed in range(n_seeds):
        for name in CONTENDERS:
            path = runs_folder() / "images" / f"{n} {epochs} {name} {seed}.json"
            scores = of_run(path, partial(_scores, name, seed, n, epochs))
            found.setdefault(name, []).append(scores)
    return markdown(found, n, epochs)


def network(name: str, epochs: int, seed: int) -> TorchClassifier:
    """Make the estimator of a row of the table."""
    return TorchClassifier(
        LeNet,
        module__learnt=name == LEARNT,
        module__dropout=0.3 if name == "MCDropout()" else 0.0,
        posterior=clone(CONTENDERS[name]),
        lr=2e-3,
        batch_size=BATCH_SIZE,
        max_epochs=2 * epochs if name == CONTROL else epochs,
        random_state=seed,
    )


def _scores(name: str, seed: int, n: int, epochs: int) -> Scores:
    folder = data_folder() / "images"
    X, y = (part[:n] for part in read(folder, "fashion_mnist_train"))
    X_test, y_test = (part[: n // 6] for part in read(folder, "fashion_mnist_test"))
    strange = read(folder, "mnist_test")[0][: n // 6]
    rows = np.random.default_rng(seed).permutation(len(X))
    apart, train = np.split(rows, [len(X) * N_CALIBRATION // 60_000])

    start = time.process_time()
    model = network(name, epochs, seed).fit(X[train], y[train])
    fit = time.process_time() - start
    scaler = TemperatureScaler(FrozenEstimator(model)).fit(X[apart], y[apart])
    scores = _judged(model, X_test, y_test, strange)
    scores |= {f"{key}, scaled": s for key, s in _judged(scaler, X_test, y_test, strange).items()}
    start = time.process_time()
    model.predict_uncertainty(X_test[:N_TIMED])
    return scores | {
        "temperature": float(scaler.temperature_),
        "fit": fit,
        "predict": time.process_time() - start,
    }


def _judged(model: Any, X: np.ndarray, y: np.ndarray, strange: np.ndarray) -> Scores:
    proba, parts = model.predict_proba(X, return_uncertainty=True)
    of_strange = model.predict_uncertainty(strange, kind="all")
    is_strange = np.repeat([0, 1], [len(X), len(strange)])
    guess = proba.argmax(1)
    found = {
        "accuracy": float((guess == y).mean()),
        "NLL": float(log_loss(y, proba)),
        "ECE": float(expected_calibration_error(y, proba)),
        "AURC": float(area_under_risk_coverage(y, guess, parts.total)),
    }
    for kind in ("epistemic", "total"):
        both = np.concatenate([getattr(parts, kind), getattr(of_strange, kind)])
        found[f"AUROC of MNIST, {kind}"] = float(roc_auc_score(is_strange, both))
    return found


def markdown(found: dict[str, list[Scores]], n: int, epochs: int) -> str:
    base = found["PointEstimate()"]
    rows: dict[str, tuple[str, ...]] = {}
    for name, runs in found.items():
        if not all(runs):
            continue  # training diverged
        scores = {key: spread(run[key] for run in runs) for key in runs[0]}
        epistemic = scores["AUROC of MNIST, epistemic"]
        rows[in_code(name)] = (
            *(scores[key] for key in ("accuracy", "NLL", "ECE", "NLL, scaled", "ECE, scaled")),
            *(spread((run[key] for run in runs), 4) for key in ("AURC", "AURC, scaled")),
            "–" if epistemic.startswith("0.500 ± 0.000") else epistemic,
            scores["AUROC of MNIST, total"],
            ratio(runs, base, "fit"),
            ratio(runs, base, "predict"),
        )
    for name, cells in PUBLISHED.items():
        rows[name] = (*cells, *["–"] * (len(COLUMNS) - len(cells)))
    head = (
        f"Fashion-MNIST, LeNet, {n:,} images of which a twelfth fits the temperature, {epochs} "
        f"epochs, batches of {BATCH_SIZE}, learning rate 0.002, seeds 0 to {len(base) - 1}; "
        f"± is the standard error. {versions()}"
    )
    return f"# Fashion-MNIST, measured\n\n{head}\n\n{table(COLUMNS, rows)}"


if __name__ == "__main__":
    sys.exit(command(images, n_seeds=3))
