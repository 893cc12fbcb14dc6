"""Tables of the classes and functions that a file may name.

`load` looks up a name only in these tables, and among the classes that authors declare with
`saved_as`. It imports nothing by a name from a file, and gets no attribute of a module by one.
Names are public ones (``skuq.posteriors.MCDropout``), so files survive changes of private modules.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from operator import attrgetter
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import skuq.active_learning as active_learning
import skuq.augmentation as augmentation
import skuq.calibration as calibration
import skuq.inputs as inputs
import skuq.likelihoods as likelihoods
import skuq.novelty as novelty
import skuq.posteriors as posteriors
import skuq.selective as selective
import skuq.semi_supervised as semi_supervised
from skuq._estimator._columns import Columns
from skuq._networks._inputs import Layout, Part
from skuq._networks._module import Numerics
from skuq._utils._parameters import NotSaved
from skuq._utils._random import PrivateGlobals
from skuq._utils._saved_names import declared
from skuq.augmentation._evaluation import Evaluation
from skuq.augmentation._fixed import FixedView
from skuq.dense_regression import TorchDenseRegressor
from skuq.estimators import TorchClassifier, TorchRegressor
from skuq.modules import MLP, TabularMLP, UNet
from skuq.novelty._gaussians import Gaussians
from skuq.novelty._judge import Judge, Learnt
from skuq.pipeline import Pipeline
from skuq.segmentation import TorchSegmenter

__all__ = ["class_name", "classes", "is_for_fit_only", "value_name", "values"]

_SKLEARN = {
    "preprocessing": (
        "Binarizer", "FunctionTransformer", "KBinsDiscretizer", "LabelBinarizer", "LabelEncoder",
        "MaxAbsScaler", "MinMaxScaler", "MultiLabelBinarizer", "Normalizer", "OneHotEncoder",
        "OrdinalEncoder", "PolynomialFeatures", "PowerTransformer", "QuantileTransformer",
        "RobustScaler", "StandardScaler", "TargetEncoder",
    ),
    "impute": ("KNNImputer", "MissingIndicator", "SimpleImputer"),
    "compose": ("ColumnTransformer", "TransformedTargetRegressor", "make_column_selector"),
    "feature_extraction.text": (
        "CountVectorizer", "HashingVectorizer", "TfidfTransformer", "TfidfVectorizer",
    ),
    "pipeline": ("FeatureUnion", "Pipeline"),
    "frozen": ("FrozenEstimator",),
    "decomposition": ("PCA", "TruncatedSVD"),
    "feature_selection": ("VarianceThreshold",),
    # Saved only if they are not fitted, as a parameter of a calibrator or of a search.
    "model_selection": (
        "GridSearchCV", "GroupKFold", "GroupShuffleSplit", "KFold", "LeaveOneOut",
        "RandomizedSearchCV", "RepeatedKFold", "RepeatedStratifiedKFold", "ShuffleSplit",
        "StratifiedGroupKFold", "StratifiedKFold", "StratifiedShuffleSplit", "TimeSeriesSplit",
    ),
}  # fmt: skip

# Parameters that only another `fit` needs. If one cannot be saved, a note takes its place.
_FOR_FIT_ONLY = {
    "callbacks", "optimizer", "random_state", "cv", "scoring", "refit", "param_grid",
    "param_distributions", "training_views",
}  # fmt: skip
_PREFIXES_FOR_FIT_ONLY = ("callbacks__", "optimizer__", "iterator_train__", "iterator_valid__")

_QUERIES = (
    "bald", "entropy", "expected_gradient_length", "expected_model_change", "least_confidence",
    "margin", "mean_std", "multi_peak_entropy", "random_scores", "variance", "variation_ratio",
)  # fmt: skip
_OPTIMIZERS = (
    "SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "NAdam", "RAdam", "Adamax", "ASGD",
    "Rprop", "SparseAdam", "LBFGS", "Adafactor", "Muon",
)  # fmt: skip
_LAYERS = (
    "CELU", "ELU", "GELU", "GLU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "Identity",
    "LeakyReLU", "LogSigmoid", "Mish", "PReLU", "ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid",
    "Softplus", "Softshrink", "Softsign", "Tanh", "Tanhshrink", "BatchNorm1d", "BatchNorm2d",
    "BatchNorm3d", "GroupNorm", "InstanceNorm1d", "InstanceNorm2d", "LayerNorm", "RMSNorm",
    "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout",
    "AvgPool1d", "AvgPool2d", "MaxPool1d", "MaxPool2d", "Linear", "Conv1d", "Conv2d", "Conv3d",
    "LSTM", "GRU", "RNN",
)  # fmt: skip
_ACTIVATIONS = (
    "celu", "elu", "gelu", "hardswish", "hardtanh", "leaky_relu", "logsigmoid", "mish", "relu",
    "relu6", "selu", "silu", "softplus", "softsign",
)  # fmt: skip
_UFUNCS = (
    "log", "log1p", "log2", "log10", "exp", "expm1", "exp2", "sqrt", "square", "cbrt", "negative",
    "reciprocal", "absolute", "sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh", "sin", "cos",
    "tan", "arcsin", "arccos", "arctan", "sign", "deg2rad", "rad2deg",
)  # fmt: skip


def _sklearn_rooms() -> dict[ModuleType, tuple[str, ...]]:
    # Imported here, because most users of skuq do not need all of these.
    import sklearn.compose
    import sklearn.decomposition
    import sklearn.feature_extraction.text
    import sklearn.feature_selection
    import sklearn.frozen
    import sklearn.impute
    import sklearn.model_selection
    import sklearn.pipeline
    import sklearn.preprocessing

    return {attrgetter(room)(sklearn): names for room, names in _SKLEARN.items()}


def classes() -> dict[str, type]:
    """List the classes of which a file may hold instances; `load` sets only their attributes.

    These are the classes listed here, and those declared with `saved_as`.
    """
    return {**_listed_classes(), **declared()}


@functools.cache
def _listed_classes() -> dict[str, type]:
    found: dict[str, type] = {
        "skuq.TorchClassifier": TorchClassifier,
        "skuq.TorchRegressor": TorchRegressor,
        "skuq.TorchSegmenter": TorchSegmenter,
        "skuq.TorchDenseRegressor": TorchDenseRegressor,
        "skuq.pipeline.Pipeline": Pipeline,
        "skuq.Numerics": Numerics,
        "skuq.Layout": Layout,
        "skuq.Part": Part,
        "skuq.Columns": Columns,
        "skuq.PrivateGlobals": PrivateGlobals,
        "skuq.NotSaved": NotSaved,
        "skuq.active_learning.ActiveLearner": active_learning.ActiveLearner,
        "skuq.active_learning.QueryStrategy": active_learning.QueryStrategy,
        "skuq.augmentation.TestTimeAugmentation": augmentation.TestTimeAugmentation,
        "skuq.selective.SelectiveClassifier": selective.SelectiveClassifier,
        "skuq.selective.SelectiveRegressor": selective.SelectiveRegressor,
        "skuq.inputs.InputNoise": inputs.InputNoise,
        "skuq.semi_supervised.MeanTeacher": semi_supervised.MeanTeacher,
        "skuq.augmentation.Evaluation": Evaluation,
        "skuq.augmentation.FixedView": FixedView,
        "skuq.novelty.Gaussians": Gaussians,
        "skuq.novelty.Judge": Judge,
        "skuq.novelty.Learnt": Learnt,
    }
    for name in augmentation.__all__:
        cls = getattr(augmentation, name)
        if isinstance(cls, type) and issubclass(cls, augmentation.View):
            found[f"skuq.augmentation.{name}"] = cls
    for room in (posteriors, likelihoods, calibration, novelty):
        for name in room.__all__:
            if isinstance(cls := getattr(room, name), type):
                found[f"{room.__name__}.{name}"] = cls
    for room, names in _sklearn_rooms().items():
        for name in names:
            found[f"{room.__name__}.{name}"] = getattr(room, name)
    return found


@functools.cache
def values() -> dict[str, Any]:
    """List the classes and functions that may be values of parameters."""
    found: dict[str, Any] = {"torch.relu": torch.relu, "torch.tanh": torch.tanh}
    found |= {"torch.sigmoid": torch.sigmoid, "skuq.modules.MLP": MLP, "skuq.modules.UNet": UNet}
    found["skuq.modules.TabularMLP"] = TabularMLP
    for prefix, room, names in (
        ("skuq.active_learning", active_learning, _QUERIES),
        ("torch.optim", torch.optim, _OPTIMIZERS),
        ("torch.nn", nn, _LAYERS),
        ("torch.nn.functional", functional, _ACTIVATIONS),
        ("numpy", np, _UFUNCS),
    ):
        found |= {f"{prefix}.{name}": getattr(room, name) for name in names if hasattr(room, name)}
    scalars = (np.float16, np.float32, np.float64, np.int8, np.int16, np.int32, np.int64, np.uint8)
    kinds = (np.number, np.integer, np.floating)  # for make_column_selector
    others = (np.bool_, np.str_, np.object_, *kinds)
    found |= {f"numpy.{kind.__name__}": kind for kind in (*scalars, *others)}
    return found | {kind.__name__: kind for kind in (bool, int, float, str, object)}


def _name_in(table: Mapping[str, Any], value: Any) -> str | None:
    return next((name for name, known in table.items() if known is value), None)


def class_name(cls: type) -> str | None:
    """Return the name of a class whose instances files may hold, else None."""
    return _name_in(classes(), cls)


def value_name(value: Any) -> str | None:
    """Return the name of a class or a function that may be a value, else None."""
    return _name_in(values(), value)


def is_for_fit_only(parameter: str) -> bool:
    return parameter in _FOR_FIT_ONLY or parameter.startswith(_PREFIXES_FOR_FIT_ONLY)
