"""skuq: honest uncertainty from torch networks, for scikit-learn users."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from skuq._data._inputs import Inputs
from skuq._version import __version__
from skuq.dense_regression import TorchDenseRegressor
from skuq.estimators import TorchClassifier, TorchRegressor
from skuq.exceptions import DivergedError, PersistenceError
from skuq.pipeline import (
    predict_draws,
    predict_interval,
    predict_quantiles,
    predict_uncertainty,
    register_draws,
)
from skuq.segmentation import TorchSegmenter

if TYPE_CHECKING:
    from skuq._cross_validation import cross_val_predict
    from skuq._differentiable import uncertainty_function
    from skuq._features import predict_features
    from skuq._from_trained import from_trained
    from skuq._onnx import export_onnx
    from skuq._report import report
    from skuq.persistence import inspect, load, save

__all__ = [
    "DivergedError",
    "Inputs",
    "PersistenceError",
    "TorchClassifier",
    "TorchDenseRegressor",
    "TorchRegressor",
    "TorchSegmenter",
    "__version__",
    "cross_val_predict",
    "export_onnx",
    "from_trained",
    "inspect",
    "load",
    "predict_draws",
    "predict_features",
    "predict_interval",
    "predict_quantiles",
    "predict_uncertainty",
    "register_draws",
    "report",
    "save",
    "uncertainty_function",
]

# Imported at the first use, so that training a network does not import the rest.
_LAZY = {
    "cross_val_predict": "skuq._cross_validation",
    "export_onnx": "skuq._onnx",
    "from_trained": "skuq._from_trained",
    "predict_features": "skuq._features",
    "report": "skuq._report",
    "uncertainty_function": "skuq._differentiable",
    **dict.fromkeys(("inspect", "load", "save"), "skuq.persistence"),
}
_ROOMS = (
    "active_learning",
    "attribution",
    "augmentation",
    "calibration",
    "datasets",
    "distributed",
    "inputs",
    "metrics",
    "novelty",
    "persistence",
    "selective",
    "semi_supervised",
    "shift",
)


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"skuq.{name}")
    if name not in _LAZY:
        raise AttributeError(f"module 'skuq' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_LAZY[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})
