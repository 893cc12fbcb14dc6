"""One network on noisy labels: data, losses, training, and what is measured.

All losses get the same images, flipped labels, network, optimizer and epochs; they differ in the
outputs that they need (UANLL has one more) and in nothing else. Nothing is stopped early and
nothing chosen by a test set: what is measured is the network of the last epoch.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split
from skorch.callbacks import Callback

from benchmarks.models import ConvNet
from skuq import TorchClassifier
from skuq.datasets import FASHION_MNIST_PAIRS, flip_labels, noise_scores
from skuq.likelihoods import Categorical, Likelihood, UncertaintyAware
from skuq.metrics import expected_calibration_error, uncertainty_error_auroc
from skuq.modules import MLP
from skuq.posteriors import PointEstimate

LOSSES: dict[str, Likelihood] = {
    "CE": Categorical(),
    "CE + label smoothing": Categorical(label_smoothing=0.1),
    "square loss": UncertaintyAware(log_variance="constant"),
    "UANLL, identity": UncertaintyAware(link="identity"),
    "UANLL, softmax": UncertaintyAware(link="softmax"),
}
DIGIT_PAIRS = ((0, 6), (1, 7), (3, 8), (5, 9))  # look-alikes; 2 and 4 are untouched
N_VALID = 2000  # images of Fashion-MNIST that the curves are of
MOST_IMAGES = {"digits": 970, "fashion-mnist": 60_000 - N_VALID}  # that are left to train on

# ---------------------------------------------------------------------------------------------
# Data


class Split(NamedTuple):
    """Images and clean labels; the validation rows are for curves alone."""

    X: np.ndarray
    y: np.ndarray
    X_valid: np.ndarray
    y_valid: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


def data_folder() -> Path:
    return Path(os.environ.get("SKUQ_DATA", Path(__file__).parents[2] / "shared" / "data"))


def fashion_mnist(seed: int, n_images: int) -> Split:
    """A stratified part of the training images, others of them for validation, all test images."""
    folder = data_folder() / "images"
    if not folder.is_dir():
        raise SystemExit(
            f"skipped: there is no {folder}; set SKUQ_DATA to a folder that has images/"
            "fashion_mnist_train.npz and fashion_mnist_test.npz, or use --data digits"
        )
    parts = []
    for name in ("train", "test"):
        with np.load(folder / f"fashion_mnist_{name}.npz") as file:
            images = (file["X"].astype(np.float32)[:, None] / 255 - 0.286) / 0.353
            parts += [images, file["y"].astype(np.int64)]
    X, y, X_test, y_test = parts
    X, X_valid, y, y_valid = train_test_split(
        X, y, test_size=N_VALID, stratify=y, random_state=seed
    )
    if n_images < len(X):
        X, _, y, _ = train_test_split(X, y, train_size=n_images, stratify=y, random_state=seed)
    return Split(X, y, X_valid, y_valid, X_test, y_test)


def digits(seed: int, n_images: int) -> Split:
    """scikit-learn's digits: 40 % for the test, a tenth of the others for validation."""
    X, y = load_digits(return_X_y=True)
    images = X.astype(np.float32).reshape(-1, 1, 8, 8) / 16
    X, X_test, y, y_test = train_test_split(images, y, test_size=0.4, stratify=y, random_state=seed)
    X, X_valid, y, y_valid = train_test_split(X, y, test_size=0.1, stratify=y, random_state=seed)
    return Split(X[:n_images], y[:n_images], X_valid, y_valid, X_test, y_test)


@dataclass(frozen=True)
class Experiment:
    """Data, and how a network learns from them."""

    name: str
    load: Callable[[int, int], Split]
    pairs: Any
    module: Any
    module_parameters: dict[str, Any]
    images: int
    epochs: int
    seeds: int
    lr: float
    batch_size: int

    def settings(self) -> dict[str, Any]:
        """What must be equal for results to be of one experiment."""
        names = ("images", "epochs", "lr", "batch_size")
        return {**{name: getattr(self, name) for name in names}, **self.module_parameters}


def experiment(name: str) -> Experiment:
    gpu = torch.cuda.is_available()
    if name == "digits":
        parameters = {"hidden_layer_sizes": [128, 64], "dropout": 0.0, "activation": "relu"}
        return Experiment(
            name, digits, DIGIT_PAIRS, MLP, parameters, MOST_IMAGES[name], 30, 10, 3e-4, 32
        )
    return Experiment(
        name,
        fashion_mnist,
        FASHION_MNIST_PAIRS,
        ConvNet,
        {"dropout": 0.5},
        images=MOST_IMAGES[name] if gpu else 12_000,
        epochs=20,
        seeds=10 if gpu else 5,
        lr=1e-3,
        batch_size=128,
    )


# ---------------------------------------------------------------------------------------------
# Training


class Validation(Callback):
    """Loss and accuracy on validation rows after each epoch, in skorch's history."""

    def __init__(self, X: torch.Tensor, y_noisy: torch.Tensor, y_clean: torch.Tensor) -> None:
        self.X = X
        self.y_noisy = y_noisy
        self.y_clean = y_clean

    @torch.no_grad()
    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        likelihood, device = net.criterion_.likelihood, next(net.module_.parameters()).device
        net.module_.eval()
        output = torch.cat([net.module_(part.to(device)) for part in self.X.split(500)]).cpu()
        net.module_.train()
        predicted = likelihood.predictive(output).logits.argmax(-1)
        nll = likelihood.negative_log_likelihood(output, self.y_noisy).mean()
        net.history.record("valid_nll", float(nll))
        net.history.record("valid_accuracy", float((predicted == self.y_noisy).float().mean()))
        net.history.record("valid_clean", float((predicted == self.y_clean).float().mean()))


class Fitted(NamedTuple):
    model: TorchClassifier
    data: Split
    y_noisy: np.ndarray
    flipped: np.ndarray
    seconds: float


def noisy_data(of: Experiment, rate: float, seed: int) -> tuple[Split, np.ndarray, np.ndarray, Any]:
    """The data of a seed; the noise of training and of validation labels is drawn apart."""
    data = of.load(seed, of.images)
    y_noisy, flipped, _ = flip_labels(data.y, of.pairs, rate, random_state=seed)
    return data, y_noisy, flipped, flip_labels(data.y_valid, of.pairs, rate, random_state=seed + 1)


def fit(of: Experiment, loss: str, rate: float, seed: int) -> Fitted:
    data, y_noisy, flipped, valid = noisy_data(of, rate, seed)
    rows = map(torch.from_numpy, (data.X_valid, valid.y_noisy, data.y_valid))
    model = TorchClassifier(
        of.module,
        likelihood=LOSSES[loss],
        posterior=PointEstimate(),
        lr=of.lr,
        max_epochs=of.epochs,
        batch_size=of.batch_size,
        callbacks=[("validation", Validation(*rows))],
        random_state=seed,
        **{f"module__{name}": value for name, value in of.module_parameters.items()},
    )
    start = time.perf_counter()
    model.fit(data.X, y_noisy)
    seconds = time.perf_counter() - start
    model.callbacks = None  # its rows need not be kept with the model
    return Fitted(model, data, y_noisy, flipped, seconds)


# ---------------------------------------------------------------------------------------------
# Measuring


def test_time_augmented(fitted: Fitted) -> Any | None:
    """The same network, asked about four views of each image: itself and three that are moved by a
    pixel, or, where eight pixels are all there is, have noise. None where skuq has no such thing.
    (A flip would turn shoes round, which all point to the left.)"""
    try:
        augmentation = importlib.import_module("skuq.augmentation")
    except ModuleNotFoundError:
        return None
    large = fitted.data.X.shape[-1] > 8
    views = augmentation.TestTimeAugmentation(
        FrozenEstimator(fitted.model),
        augmentation.Shift(1) if large else augmentation.GaussianNoise(0.1),
        n_views=4,
        random_state=0,
    )
    return views.fit(fitted.data.X[:100], fitted.y_noisy[:100])


def measure(model: Any, fitted: Fitted, pairs: Any) -> dict[str, float | None]:
    """What the table has, of clean test images and of the noisy labels of training."""
    data = fitted.data
    proba, uncertainty = model.predict_proba(data.X_test, return_uncertainty=True)
    predicted = model.predict(data.X_test)
    test = noise_scores(model, data.X_test, data.y_test)
    found: dict[str, float | None] = {
        "accuracy": float((predicted == data.y_test).mean()),
        "nll": float(test.loss.mean()),
        "ece": expected_calibration_error(data.y_test, proba),
        "error_auroc_entropy": uncertainty_error_auroc(data.y_test, predicted, uncertainty.total),
        "pair_accuracy": float(_same_pair(predicted, data.y_test, pairs).mean()),
    }
    scores = noise_scores(model, data.X, fitted.y_noisy)
    if scores.noise_variance is not None:
        weight = 1 / scores.noise_variance
        found["untouched_weight"] = float(weight[~np.isin(data.y, pairs)].sum() / weight.sum())
    if test.noise_variance is not None:
        found["error_auroc_noise"] = uncertainty_error_auroc(
            data.y_test, predicted, test.noise_variance
        )
    if fitted.flipped.any():
        found |= {f"flip_auroc_{name}": v for name, v in scores.auroc(fitted.flipped).items()}
    return found


def _same_pair(one: np.ndarray, other: np.ndarray, pairs: Any) -> np.ndarray:
    """Whether labels are equal, or those of a class and its look-alike."""
    alike = one == other
    for a, b in pairs:
        alike |= np.isin(one, (a, b)) & np.isin(other, (a, b))
    return alike
