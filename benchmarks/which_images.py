"""Which posterior? The same comparison on images: a small LeNet on Fashion-MNIST, MNIST apart.

`which-images` scores all posteriors, `which-memory` measures their memory. Each posterior and seed
is a file (see `quality_runs.py`), so an interrupted run goes on. Images are in a folder `images`
in $SKUQ_DATA.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.metrics import log_loss, roc_auc_score
from torch import nn

import skuq
from benchmarks.harness import Report
from benchmarks.memory import extra_memories
from benchmarks.posteriors import data_folder, read
from benchmarks.quality_runs import of_run, runs_folder
from benchmarks.which_posterior import CONTROL, LEARNT, POSTERIORS, Scores, measured, write
from skuq import TorchClassifier
from skuq.metrics import area_under_risk_coverage, expected_calibration_error
from skuq.modules import ConcreteDropout
from skuq.posteriors import PointEstimate, Posterior

__all__ = ["LeNet", "halves", "images", "memory"]

N_TRAIN, N_TEST, N_TIMED, N_SEEDS, EPOCHS = 1000, 1000, 300, 5, 12
SLOWEST = "DeepEnsemble(adversarial=0.01)"  # comes last: a run may end before it
# The walks of SGMCMC take eight times as long as the point estimate: the default stands for all.
FEWER = [name for name in POSTERIORS if name != SLOWEST and not name.startswith("SGMCMC(lr")]
NAMES = [*FEWER, CONTROL, LEARNT, SLOWEST]


class LeNet(nn.Sequential):
    """Two convolutions and three linear layers; dropout before the last two, or learnt there."""

    def __init__(self, n_outputs: int, dropout: float = 0.0, learnt: bool = False) -> None:
        def behind_dropout(layer: nn.Linear) -> nn.Module:
            if learnt:
                return ConcreteDropout(layer)
            return nn.Sequential(nn.Dropout(dropout), layer) if dropout > 0 else layer

        super().__init__(
            nn.Conv2d(1, 6, 5, padding=2), nn.SiLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5), nn.SiLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(400, 120), nn.SiLU(),
            behind_dropout(nn.Linear(120, 84)), nn.SiLU(),
            behind_dropout(nn.Linear(84, n_outputs)),
        )  # fmt: skip


def network(name: str, epochs: int, seed: int) -> TorchClassifier:
    """Make the estimator of a row of the table."""
    posterior: Posterior = PointEstimate() if name == CONTROL else POSTERIORS.get(
        name, POSTERIORS["MCDropout()"]
    )  # fmt: skip
    return TorchClassifier(
        LeNet,
        module__learnt=name == LEARNT,
        module__dropout=0.3 if name == "MCDropout()" else 0.0,
        posterior=clone(posterior),
        lr=2e-3,
        batch_size=32,
        max_epochs=2 * epochs if name == CONTROL else epochs,
        random_state=seed,
    )


def images(report: Report) -> None:
    """Score all posteriors, one after another and seed by seed."""
    n_seeds, epochs = report.sized(N_SEEDS, 2), report.sized(EPOCHS, 1)
    n_train, n_test = report.sized(N_TRAIN, 200), report.sized(N_TEST, 100)
    title = f"Fashion-MNIST, LeNet, {n_train:,} images, {epochs} epochs, {n_seeds} seeds"
    if not data_folder().is_dir():
        report.remark(title, f"skipped: there is no {data_folder()}; set SKUQ_DATA")
        return
    found: dict[str, list[Scores]] = {}
    runs = [(name, seed) for seed in range(n_seeds) for name in NAMES]
    for name, seed in sorted(runs, key=lambda run: run[0] == SLOWEST):
        path = runs_folder() / "few-images" / f"{n_train} {epochs} {name} {seed}.json"
        scores = of_run(path, partial(_scores, name, seed, epochs, n_train, n_test))
        if scores:
            found.setdefault(name, []).append(scores)
        else:
            report.remark(title, f"{name}: training diverged with seed {seed}")
    first = found.pop("PointEstimate()")
    whole = {name: runs for name, runs in found.items() if len(runs) == n_seeds}
    write(report, title, {"PointEstimate()": first, **whole})


def _scores(name: str, seed: int, epochs: int, n_train: int, n_test: int) -> Scores:
    X, y = read(data_folder(), "fashion_mnist_train")
    rows = np.random.default_rng(seed).permutation(len(X))[:n_train]
    X, y = X[rows], y[rows]
    X_test, y_test = (part[:n_test] for part in read(data_folder(), "fashion_mnist_test"))
    strange = {
        "halves": halves(X_test, y_test),
        "MNIST": read(data_folder(), "mnist_test")[0][:n_test],
    }

    def fit() -> Any:
        model = network(name, epochs, seed).fit(X, y)
        model.rows_to_predict = X_test[:N_TIMED]
        return model

    def score(model: TorchClassifier) -> Scores:
        proba, parts = model.predict_proba(X_test, return_uncertainty=True)
        guess = proba.argmax(1)
        found = {
            "accuracy": float((guess == y_test).mean()),
            "NLL": log_loss(y_test, proba),
            "ECE": expected_calibration_error(y_test, proba),
            "AURC": area_under_risk_coverage(y_test, guess, parts.total),
        }
        for what, others in strange.items():
            of_others = model.predict_uncertainty(others, kind="all")
            is_strange = np.repeat([0, 1], [n_test, len(others)])
            for kind in ("total", "epistemic"):
                both = np.concatenate([getattr(parts, kind), getattr(of_others, kind)])
                found[f"AUROC of {what}, {kind}"] = float(roc_auc_score(is_strange, both))
        return found

    return measured(fit, score)


def halves(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Left halves of images beside right halves of images of another class."""
    other = np.random.default_rng(0).permutation(len(X))
    half = X.shape[-1] // 2
    joined = np.concatenate([X[..., :half], X[other][..., half:]], axis=-1)
    return np.asarray(joined[y != y[other]])


# ---------------------------------------------------------------------------------------------
# Memory


def memory(report: Report) -> None:
    """The rise of the peak of fit and predict, and the size of a saved estimator."""
    n_train, n_test = report.sized(N_TRAIN, 200), report.sized(N_TEST, 100)
    title = f"Memory, LeNet, {n_train:,} images to fit and {n_test:,} to predict"
    names = [n for n in FEWER if n not in ("SWAG(scale=0)", "Variational(kl_weight=1)")]
    calls = [(name, part, n_train, n_test) for name in names for part in PARTS]
    rises = iter(extra_memories(prepared, calls))
    for name in names:
        found = dict(zip(PARTS, rises)) | {"saved": saved_size(name, n_train)}
        for part, mebibytes in found.items():
            report.memory(title, f"{name}, {part}", mebibytes)
        report.remark(title, f"{name}: " + ", ".join(f"{k} {v:.2f}" for k, v in found.items()))


PARTS = ("fit", "predict")


def prepared(name: str, part: str, n_train: int, n_test: int) -> Callable[[], Any]:
    """Return a call whose memory counts; the data are noise, since their values do not matter."""
    random = np.random.default_rng(0)
    X = random.normal(size=(max(n_train, n_test), 1, 28, 28)).astype(np.float32)
    y = random.integers(10, size=n_train)
    warnings.simplefilter("ignore")
    network(name, 1, 0).fit(X[:100], y[:100]).predict_uncertainty(X[:10])  # what is loaded once
    model = network(name, 1, 0)
    if part == "fit":
        return lambda: model.fit(X[:n_train], y)
    model.fit(X[:n_train], y)
    return lambda: model.predict_uncertainty(X[:n_test], kind="all")


def saved_size(name: str, n_train: int) -> float:
    """MiB of the file of `skuq.save`: the weights of all draws, in most cases."""
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        random = np.random.default_rng(0)
        X = random.normal(size=(n_train, 1, 28, 28)).astype(np.float32)
        model = network(name, 1, 0).fit(X, random.integers(10, size=n_train))
        path = Path(folder) / "model.skuq"
        skuq.save(model, path)
        return path.stat().st_size / 2**20
