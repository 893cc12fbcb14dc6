"""Posteriors: what they cost after training, that they agree with other packages, what they see.

`laplace-digits` compares the Laplace approximation of the last layer with laplace-torch on the same
weights, `laplace-conv` its cost with forward passes. `laplace-images` measures quality instead of
time: conv nets trained on few images of Fashion-MNIST, before and after Laplace, and whether they
know that MNIST is something else.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss, roc_auc_score
from torch import nn

from benchmarks import peers
from benchmarks.harness import Bar, Line, Report, Spread, check
from benchmarks.models import (
    DIGITS_BATCH,
    IMAGE_BATCH,
    N_CLASSES,
    ConvNet,
    image_data,
    skuq_classifier,
    tensors,
)
from skuq import TorchClassifier
from skuq.posteriors import Draws, LastLayerLaplace, Problem

STRUCTURES = ("full", "kronecker", "diagonal")
HIDDEN = 32  # features of the digits
# Of prior precision and covariance, relative. Their Kronecker product treats biases apart.
TOLERANCES = {"full": (1e-3, 2e-5), "diagonal": (1e-3, 2e-5)}
N_DRAWS = 100
N_IMAGES, N_SEEDS, EPOCHS, WIDTH = 1000, 5, 30, 64


class Trained:
    """A factory of copies of a trained network."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def __call__(self) -> nn.Module:
        return copy.deepcopy(self.network)


class Data(NamedTuple):
    """A trained network and its training rows."""

    network: nn.Module
    X: np.ndarray
    y: np.ndarray


def after_training(network: nn.Module, posterior: Any, **options: Any) -> TorchClassifier:
    """An estimator that fits a posterior to a network as it is."""
    return skuq_classifier(Trained(network), posterior=posterior, max_epochs=0, **options)


# ---------------------------------------------------------------------------------------------
# Beside laplace-torch


def digits_network() -> Data:
    X, y = load_digits(return_X_y=True)
    X = X / 16

    def build() -> nn.Module:
        return nn.Sequential(
            nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 10)
        )

    settings = {"max_epochs": 20, "lr": 3e-3, "batch_size": DIGITS_BATCH, "precision": "float64"}
    return Data(skuq_classifier(build, **settings).fit(X, y).module_, X, y)


class Kept(LastLayerLaplace):
    """Keeps the problem that it was given: what comes before the posterior is not its affair."""

    problem: ClassVar[Problem]

    def fit(self, problem: Problem) -> Draws:
        Kept.problem = problem
        return super().fit(problem)


def digits(report: Report) -> None:
    network, X, y = digits_network()
    for structure in STRUCTURES:
        table = f"last-layer Laplace on digits, {structure}, prior precision by evidence"
        others = peers.present(report, table, peers.LAPLACES)
        # In as many steps as it takes by default, its search is not at the end.
        theirs = {name: fit(network, X, y, structure, 1000) for name, fit in others.items()}
        settings = {"precision": "float64", "batch_size": DIGITS_BATCH}
        ours = after_training(network, LastLayerLaplace(structure, "evidence", 200), **settings)
        ours.fit(X, y)
        for name, other in theirs.items():
            compare(report, table, name, other, ours, Data(network, X, y))
        kept = Kept(structure, "evidence", 200)
        after_training(network, kept, **settings).fit(X, y)
        Kept.problem.train = lambda: [network]  # type: ignore[method-assign]
        by_itself = "skuq, the posterior with its prior"
        fits: dict[str, Callable[[], Any]] = {
            by_itself: lambda kept=kept, problem=Kept.problem: kept.fit(problem),
            "skuq, fit with all checks": lambda ours=ours: ours.fit(X, y),
            **{
                f"{name}, fit with the prior": lambda f=f, s=structure: f(network, X, y, s)
                for name, f in others.items()
            },
            "skuq, 200 draws": lambda ours=ours: ours.predict_proba(X),
            **{f"{name}, 200 draws": lambda o=o: o.proba(X, 200) for name, o in theirs.items()},
        }
        bars = [Bar(by_itself, f"{name}, fit with the prior", 0.05) for name in others]
        report.time(table, fits, bars)


def compare(
    report: Report,
    table: str,
    name: str,
    other: Any,
    ours: TorchClassifier,
    data: Data,
) -> None:
    """Prior precision and covariance, where both mean the same."""
    found, expected = ours.posterior_.prior_precision_, other.prior_precision
    structure = ours.posterior_.structure_
    if structure not in TOLERANCES:
        report.remark(table, f"prior precision {found:.4f}, of {name} {expected:.4f}")
        return
    of_prior, of_covariance = TOLERANCES[structure]
    check(f"prior precisions of skuq and {name}", found / expected, 1.0, of_prior)
    settings = {"precision": "float64", "batch_size": DIGITS_BATCH}
    posterior = LastLayerLaplace(structure, expected, 2)
    same = after_training(data.network, posterior, **settings)
    covariance = exact_covariance(same, data.X, data.y)
    size = np.linalg.norm(other.covariance)
    apart = np.linalg.norm(covariance - other.covariance) / size
    check(f"covariances of skuq and {name}, relative", apart, 0.0, of_covariance)
    report.remark(
        table,
        f"prior precision {found:.5f}, of {name} {expected:.5f}; covariances {apart:.1e} apart",
    )
    draws = ours.predict_proba(data.X[:100])
    theirs = other.proba(data.X[:100], 20_000)
    check(f"probabilities of 200 draws, and of 20,000 of {name}", draws, theirs, 0.05)


def exact_covariance(estimator: TorchClassifier, X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of weights and then biases, from draws whose noise is one unit vector after another."""
    from skuq.posteriors._head import Head

    before = Head.noise
    n = (HIDDEN + 1) * N_CLASSES

    def units(self: Any, n_pairs: int, seed: int) -> Any:
        yield torch.eye(n, dtype=torch.float64).reshape(n, N_CLASSES, HIDDEN + 1)

    Head.noise = units  # type: ignore[method-assign]
    try:
        estimator.set_params(posterior__n_draws=2 * n).fit(X, y)
    finally:
        Head.noise = before  # type: ignore[method-assign]
    tensors = estimator._engine.draws.tensors(0, 2 * n)
    flat = torch.cat([tensor.flatten(1) for tensor in tensors.values()], dim=1)
    deviations = (flat[::2] - flat[1::2]) / 2
    return (deviations.T @ deviations).numpy()


# ---------------------------------------------------------------------------------------------
# Beside forward passes


def conv(report: Report) -> None:
    n_rows = report.sized(10_000, 500)
    X, y = image_data(n_rows, seed=1)
    untrained = skuq_classifier(ConvNet, batch_size=IMAGE_BATCH, module__width=WIDTH)
    network = untrained.fit(X[:1000], y[:1000]).module_
    point = skuq_classifier(Trained(network), max_epochs=0, batch_size=IMAGE_BATCH).fit(X, y)
    (inputs,) = tensors(X)
    for structure in STRUCTURES:
        network_is = f"conv net of {WIDTH} features, {n_rows:,} images"
        table = f"last-layer Laplace after training, {structure}, {network_is}"
        ours = after_training(
            network, LastLayerLaplace(structure, n_draws=N_DRAWS), batch_size=IMAGE_BATCH
        )
        base = "one predict_proba of the network"
        fit, predict = "skuq, fit", f"skuq, predict_proba of {N_DRAWS} draws"
        ours.fit(X, y)
        contenders = {
            base: lambda: point.predict_proba(X),
            "plain forward": lambda: forward(network, inputs),
            fit: lambda ours=ours: ours.fit(X, y),
            predict: lambda ours=ours: ours.predict_proba(X),
        }
        report.time(table, contenders, [Bar(fit, base, 2.0), Bar(predict, base, 2.0)])


@torch.no_grad()
def forward(network: nn.Module, inputs: torch.Tensor) -> None:
    for rows in inputs.split(IMAGE_BATCH):
        network(rows)


# ---------------------------------------------------------------------------------------------
# What they see


def images(report: Report) -> None:
    """Fashion-MNIST against MNIST, by the same weights with and without Laplace."""
    n_seeds, epochs = report.sized(N_SEEDS, 1), report.sized(EPOCHS, 2)
    network = f"conv net of {WIDTH} features"
    table = f"{network} on {N_IMAGES:,} images of Fashion-MNIST, MNIST apart, {n_seeds} seeds"
    folder = data_folder()
    if not folder.is_dir():
        report.remark(table, f"skipped: there is no {folder}; set SKUQ_DATA")
        return
    n_test = report.sized(2000, 200)
    found = [one_network(folder, seed, epochs, n_test) for seed in range(n_seeds)]
    measured = {name: [each[name] for each in found] for name in found[0]}
    for name, values in measured.items():
        report.lines.append(Line(table, f"{name}, mean", float(np.mean(values)), "value", None))
        report.remark(table, f"{name}: " + ", ".join(f"{value:.3f}" for value in values))
    for structure in ("full", "kronecker"):
        loss = np.divide(measured[f"NLL, {structure}"], measured["NLL, point estimate"])
        what = f"NLL, {structure}, over that of the point estimate"
        report.goal(table, what, mean_and_range(loss), 1.0)
    unseen = 1 - np.array(measured["AUROC by epistemic, full"])  # full is the default here
    report.goal(table, "1 − AUROC by epistemic, full, mean", mean_and_range(unseen), 0.12)


def one_network(folder: Path, seed: int, epochs: int, n_test: int) -> dict[str, float]:
    X, y = read(folder, "fashion_mnist_train")
    order = np.random.default_rng(seed).permutation(len(X))[:N_IMAGES]
    X, y = X[order], y[order]
    X_test, y_test = (part[:n_test] for part in read(folder, "fashion_mnist_test"))
    other = read(folder, "mnist_test")[0][:n_test]
    is_other = np.repeat([0, 1], n_test)
    both = np.concatenate([X_test, other])
    options = {"batch_size": 64, "random_state": seed}
    network = {"module__width": WIDTH, "module__dropout": 0.0}
    point = skuq_classifier(ConvNet, max_epochs=epochs, **network, **options).fit(X, y)
    measured = {
        "NLL, point estimate": log_loss(y_test, point.predict_proba(X_test)),
        "AUROC by total, point estimate": roc_auc_score(is_other, point.predict_uncertainty(both)),
    }
    for structure in ("full", "kronecker"):
        laplace = after_training(point.module_, LastLayerLaplace(structure), **options).fit(X, y)
        total, _, epistemic = laplace.predict_uncertainty(both, kind="all")
        measured[f"NLL, {structure}"] = log_loss(y_test, laplace.predict_proba(X_test))
        measured[f"AUROC by total, {structure}"] = roc_auc_score(is_other, total)
        measured[f"AUROC by epistemic, {structure}"] = roc_auc_score(is_other, epistemic)
    return measured


def data_folder() -> Path:
    default = Path(__file__).parents[2] / "shared" / "data"
    return Path(os.environ.get("SKUQ_DATA", default)) / "images"


def read(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    with np.load(folder / f"{name}.npz") as file:
        return (file["X"][:, None] / np.float32(255)).astype(np.float32), file["y"]


def mean_and_range(values: Any) -> Spread:
    return float(np.mean(values)), float(np.min(values)), float(np.max(values))
