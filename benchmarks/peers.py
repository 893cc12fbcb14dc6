"""Other packages as contenders: one small adapter for each thing that a package can do.

A peer that cannot be imported is left out with a remark. `requirements-peers.txt` has the versions;
scikit-learn and skorch are always there, since skuq needs them.

* `FITS`: fit(X, y, epochs) trains the MLP and returns a function from X to probabilities.
* `ENSEMBLES`: the same for K members, fit(X, y, epochs, n_members).
* `DROPOUTS`: predict(module, rows, n_draws), mean probabilities of one slice under fresh dropout.
* `TEMPERATURES`: fit(logits, y), the temperature.
* `LAPLACES`: fit(network, X, y, structure, n_steps) of the last layer of a trained network, with
  the prior precision of the highest evidence; it has `prior_precision`, `covariance`, `proba`.
* `ERRORS`: error(y, proba), the expected calibration error in 15 bins.
"""

from __future__ import annotations

import copy
import importlib
import logging
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from skorch import NeuralNetClassifier
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.harness import Report
from benchmarks.models import (
    BATCH,
    DIGITS_BATCH,
    LR,
    N_CLASSES,
    SLICE,
    loop_proba,
    plain_mlp,
    tensors,
)

Adapters = dict[str, Callable[..., Any]]
Predict = Callable[[np.ndarray], np.ndarray]

PACKAGES = {
    "torch-uncertainty": "torch_uncertainty",
    "Lightning": "lightning",
    "lightning-uq-box": "lightning_uq_box.uq_methods",
    "baal": "baal.modelwrapper",
    "laplace-torch": "laplace",
    "netcal": "netcal",
    "torchmetrics": "torchmetrics",
}

# torchvision's compiled operators may not fit a CPU build of torch. The peers need none of them,
# but importing torchvision fails where it describes operators that are not there.
_OPERATORS = "torchvision._meta_registrations"
sys.modules.setdefault(_OPERATORS, types.ModuleType(_OPERATORS))


def present(report: Report, table: str, adapters: Adapters) -> Adapters:
    """The adapters whose package can be imported; a remark tells of the others."""
    if not report.with_peers:
        return {}
    found: Adapters = {}
    missing = []
    for name, adapter in adapters.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                importlib.import_module(PACKAGES[name])
            found[name] = adapter
        except ModuleNotFoundError as error:
            missing.append(name if error.name in PACKAGES[name] else f"{name} ({error})")
        except Exception as error:  # a broken installation raises anything
            missing.append(f"{name} ({type(error).__name__}: {error})")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)  # no greeting at every fit
    if missing:
        report.remark(table, f"left out, not installed: {', '.join(missing)}")
    return found


# ---------------------------------------------------------------------------------------------
# Fits


def fit_scikit_learn(X: np.ndarray, y: np.ndarray, epochs: int) -> Predict:
    network = MLPClassifier(
        (100, 100), batch_size=BATCH, max_iter=epochs, n_iter_no_change=epochs + 1, alpha=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return network.fit(X, y).predict_proba


def skorch_net(module: Any = plain_mlp, epochs: int = 1, **parameters: Any) -> NeuralNetClassifier:
    """Stock skorch: its default callbacks, torch's DataLoader and torch's default Adam."""
    settings = {
        "criterion": nn.CrossEntropyLoss,
        "optimizer": torch.optim.Adam,
        "lr": LR,
        "max_epochs": epochs,
        "batch_size": BATCH,
        "iterator_train__shuffle": True,
        "train_split": None,
        "verbose": 0,
    }
    return NeuralNetClassifier(module, **{**settings, **parameters})


def fit_skorch(X: np.ndarray, y: np.ndarray, epochs: int) -> Predict:
    return skorch_net(epochs=epochs).fit(X, y).predict_proba


def _trained(routine: nn.Module, X: np.ndarray, y: np.ndarray, epochs: int) -> Any:
    """A Lightning module after training on the CPU, without checkpoints, logs or bars."""
    from lightning import Trainer

    loader = DataLoader(TensorDataset(*tensors(X, y)), batch_size=BATCH, shuffle=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice about workers
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=epochs,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(routine, loader)
    return routine.eval()


def fit_lightning(X: np.ndarray, y: np.ndarray, epochs: int) -> Predict:
    from lightning import LightningModule

    class Bare(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = plain_mlp()

        def training_step(self, batch: Any, _: int) -> Tensor:
            return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=LR)

    trained = _trained(Bare(), X, y, epochs)
    return lambda X: loop_proba(trained.model, *tensors(X)).numpy()


def fit_torch_uncertainty(X: np.ndarray, y: np.ndarray, epochs: int) -> Predict:
    module = _torch_uncertainty_module(X, y, epochs)
    return lambda X: loop_proba(module, *tensors(X)).numpy()


def _torch_uncertainty_module(X: np.ndarray, y: np.ndarray, epochs: int) -> nn.Module:
    from torch_uncertainty.routines import ClassificationRoutine

    module = plain_mlp()
    routine = ClassificationRoutine(
        model=module,
        num_classes=N_CLASSES,
        loss=nn.CrossEntropyLoss(),
        optim_recipe=torch.optim.Adam(module.parameters(), lr=LR),
    )
    _trained(routine, X, y, epochs)
    return module.eval()


FITS: Adapters = {"torch-uncertainty": fit_torch_uncertainty, "Lightning": fit_lightning}


# ---------------------------------------------------------------------------------------------
# Ensembles


def ensemble_skorch(X: np.ndarray, y: np.ndarray, epochs: int, n_members: int) -> Predict:
    members = [fit_skorch(X, y, epochs) for _ in range(n_members)]
    return lambda X: sum(predict(X) for predict in members) / n_members


def ensemble_torch_uncertainty(
    X: np.ndarray, y: np.ndarray, epochs: int, n_members: int
) -> Predict:
    """Its deep ensemble is made of networks that were trained one by one."""
    from torch_uncertainty.methods import deep_ensembles

    modules = [_torch_uncertainty_module(X, y, epochs) for _ in range(n_members)]
    ensemble = deep_ensembles(modules).eval()

    @torch.no_grad()
    def predict(X: np.ndarray) -> np.ndarray:
        output = ensemble(*tensors(X)).unflatten(0, (n_members, -1))
        return output.softmax(-1).mean(0).numpy()

    return predict


ENSEMBLES: Adapters = {"torch-uncertainty": ensemble_torch_uncertainty}


# ---------------------------------------------------------------------------------------------
# Monte-Carlo dropout


def in_slices(
    predict: Callable[..., Tensor], module: nn.Module, rows: Tensor, n_draws: int, size: int = SLICE
) -> Tensor:
    """What an adapter of `DROPOUTS` predicts for many rows."""
    with torch.no_grad():
        return torch.cat([predict(module, part, n_draws) for part in rows.split(size)])


def dropout_torch_uncertainty(module: nn.Module, rows: Tensor, n_draws: int) -> Tensor:
    from torch_uncertainty.methods import mc_dropout

    # In a loop over the draws: its other way repeats the rows, and is slower on a CPU.
    wrapped = mc_dropout(module, num_estimators=n_draws, on_batch=False).eval()
    return wrapped(rows).unflatten(0, (n_draws, -1)).softmax(-1).mean(0)


def dropout_lightning_uq_box(module: nn.Module, rows: Tensor, n_draws: int) -> Tensor:
    from lightning_uq_box.uq_methods import MCDropoutClassification

    method = MCDropoutClassification(module, n_draws, nn.CrossEntropyLoss())
    return method.predict_step(rows)["pred"]


def dropout_baal(module: nn.Module, rows: Tensor, n_draws: int) -> Tensor:
    from baal.bayesian.dropout import patch_module
    from baal.modelwrapper import ModelWrapper, TrainingArgs

    settings = TrainingArgs(use_cuda=False, replicate_in_memory=False)
    wrapped = ModelWrapper(patch_module(module, inplace=False), settings)
    wrapped.eval()
    return wrapped.predict_on_batch(rows, iterations=n_draws).softmax(1).mean(-1)


DROPOUTS: Adapters = {
    "torch-uncertainty": dropout_torch_uncertainty,
    "lightning-uq-box": dropout_lightning_uq_box,
    "baal": dropout_baal,
}


# ---------------------------------------------------------------------------------------------
# Laplace


class LaplaceTorch:
    """Its last-layer Laplace; draws are of its sampling of weights, as skuq's are."""

    STRUCTURES: ClassVar[dict[str, str]] = {
        "full": "full",
        "kronecker": "kron",
        "diagonal": "diag",
    }

    def __init__(
        self, network: nn.Module, X: np.ndarray, y: np.ndarray, structure: str, n_steps: int = 100
    ) -> None:
        from laplace import Laplace

        self._laplace = Laplace(
            copy.deepcopy(network),
            "classification",
            subset_of_weights="last_layer",
            hessian_structure=self.STRUCTURES[structure],
        )
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            self._laplace.fit(DataLoader(TensorDataset(*tensors(X, y)), batch_size=DIGITS_BATCH))
            self._laplace.optimize_prior_precision(
                pred_type="nn", method="marglik", n_steps=n_steps
            )

    @property
    def prior_precision(self) -> float:
        return float(self._laplace.prior_precision)

    @property
    def covariance(self) -> np.ndarray:
        if hasattr(self._laplace, "posterior_covariance"):
            return self._laplace.posterior_covariance.numpy()
        return np.diag(self._laplace.posterior_variance.numpy())

    def proba(self, X: np.ndarray, n_draws: int) -> np.ndarray:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            return self._laplace(
                *tensors(X), pred_type="nn", link_approx="mc", n_samples=n_draws
            ).numpy()


LAPLACES: Adapters = {"laplace-torch": LaplaceTorch}


# ---------------------------------------------------------------------------------------------
# Calibration


def temperature_torch_uncertainty(logits: np.ndarray, y: np.ndarray) -> float:
    from torch_uncertainty.post_processing import TemperatureScaler

    scaler = TemperatureScaler()
    rows = TensorDataset(*tensors(logits, y))
    # In large batches: its own part is what follows the collection of the logits.
    loader = DataLoader(rows, batch_size=None, sampler=torch.arange(len(y)).split(50_000))
    logging.disable(logging.WARNING)
    try:
        scaler.fit(loader, progress=False)
    finally:
        logging.disable(logging.NOTSET)
    return scaler.temperature[0].item()


def temperature_netcal(logits: np.ndarray, y: np.ndarray) -> float:
    from netcal.scaling import TemperatureScaling

    # In float64, unlike the others: in float32 its search stops where it begins, at T = 1.
    proba = torch.from_numpy(logits).double().softmax(1).numpy()
    scaling = TemperatureScaling().fit(proba, y)
    return 1 / float(np.ravel(scaling.weights)[0])  # it multiplies logits by its weight


def error_torchmetrics(y: np.ndarray, proba: np.ndarray) -> float:
    from torchmetrics.functional.classification import multiclass_calibration_error

    rows, labels = tensors(proba, y)
    return float(multiclass_calibration_error(rows, labels, num_classes=proba.shape[1], n_bins=15))


def error_netcal(y: np.ndarray, proba: np.ndarray) -> float:
    from netcal.metrics import ECE

    return float(ECE(15).measure(proba, y))


TEMPERATURES: Adapters = {
    "torch-uncertainty": temperature_torch_uncertainty,
    "netcal": temperature_netcal,
}
ERRORS: Adapters = {"torchmetrics": error_torchmetrics, "netcal": error_netcal}
