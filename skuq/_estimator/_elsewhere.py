"""Parts of `from_trained`: a copy of the network, its likelihood, and its labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils.validation import check_array
from torch import Tensor, nn
from torch.utils.data import IterableDataset

from skuq._data._checks import checks_of_rows, dense
from skuq._data._streams import is_dataset
from skuq._networks._module import Numerics, build, call, first_rows, own_copy
from skuq._networks._precision import float_dtype
from skuq._networks._trained import TrainedNetwork
from skuq._utils._random import PrivateGlobals
from skuq._utils._sklearn_compat import _safe_indexing
from skuq._utils._tensors import tensors_of
from skuq.likelihoods import Bernoulli, Categorical, Gaussian, Likelihood

__all__ = [
    "all_labels",
    "chosen_likelihood",
    "copy_factory",
    "first_rows_of",
    "refuse_random_weights",
]


def first_rows_of(X: Any, y: Any, numerics: Numerics) -> tuple[Tensor, Any]:
    """Return three rows of X as the network gets them, and the first target (None without y)."""
    if is_dataset(X):
        x, target = (next(iter(X)) if isinstance(X, IterableDataset) else X[0])[:2]
        part, target = np.asarray(x)[None], np.asarray(target)
    else:
        part = _safe_indexing(X, slice(0, 3)) if hasattr(X, "__len__") or hasattr(X, "shape") else X
        target = None if y is None else np.asarray(dense(_safe_indexing(y, slice(0, 1))))
        target = target[0] if target is not None and len(target) else None
    checks = {**checks_of_rows(numerics), "ensure_all_finite": False}
    rows = torch.as_tensor(np.array(dense(check_array(part, input_name="X", **checks))))
    return first_rows(rows.to(numerics.device, numerics.dtype), 3), target


def copy_factory(
    module: nn.Module, rows: Tensor, numerics: Numerics
) -> tuple[TrainedNetwork, int | None]:
    """Make a factory of copies of a trained module; also return its number of outputs, if usual.

    The copies keep the precision of the module; the estimator may change it later.
    """
    precision = "float64" if float_dtype(module) == torch.float64 else "float32"
    own = Numerics(numerics.device, precision)
    with PrivateGlobals(0), torch.no_grad():
        network = own_copy(module, rows, own)
        output = call(network, rows.to(own.dtype), own)
    is_usual = isinstance(output, Tensor) and output.ndim == 2  # else fit raises the error
    return TrainedNetwork(network), output.shape[1] if is_usual else None


def refuse_random_weights(kind: type, rows: Tensor) -> None:
    """Refuse a class whose weights depend on the generator: these are not trained."""
    weights = []
    for seed in (0, 1):
        with PrivateGlobals(seed), torch.no_grad():
            try:
                built = build(kind, {}, rows[0].numel(), 2)
            except TypeError:  # fit raises the error
                return
        known = (t for t in tensors_of(built).values() if not nn.parameter.is_lazy(t))
        weights.append([tensor.detach() for tensor in known])
    one, other = weights
    if len(one) != len(other) or not all(map(torch.equal, one, other)):
        raise ValueError(
            f"{kind.__name__} is a class that draws its weights at random: it is not trained. Give "
            "the instance that you have trained, or a function that loads the weights"
        )


def chosen_likelihood(
    task: str, likelihood: Likelihood | None, n_outputs: int | None, target: Any, scale: Any
) -> Likelihood | None:
    """Choose the likelihood of the outputs, in the units in which the network was trained."""
    if task == "classification":
        if scale is not None:
            raise ValueError("target_scale is for task='regression': labels have no scale")
        if likelihood is None and n_outputs is not None:
            likelihood = Bernoulli() if n_outputs == 1 or np.size(target) > 1 else Categorical()
        return likelihood
    if likelihood is None:
        likelihood = _gaussian(n_outputs, np.size(target))
    likelihood = clone(likelihood)
    if "standardise" in likelihood.get_params():
        own = likelihood.get_params()["standardise"]
        if (
            isinstance(own, bool | np.bool_) and own
        ):  # it would standardise with these rows, which did not train the network
            plain = (v.item() if isinstance(v, np.generic) else v for v in scale or ())
            likelihood.set_params(standardise=False if scale is None else tuple(plain))
        elif scale is not None:
            raise ValueError(
                f"target_scale and {likelihood} both give the units of the network: leave one out"
            )
    elif scale is not None:
        raise ValueError(
            f"target_scale={scale!r} sets units, but {type(likelihood).__name__} has none: leave "
            "it out"
        )
    return likelihood


def _gaussian(n_outputs: int | None, n_targets: int) -> Gaussian:
    if n_outputs is None or n_outputs == 2 * n_targets:
        return Gaussian()
    if n_outputs == n_targets:
        return Gaussian(heteroscedastic=False)
    raise ValueError(
        f"the network has {n_outputs} outputs for {n_targets} targets; expected {n_targets}, "
        f"means, or {2 * n_targets}, means and then log-variances. Give the likelihood with which "
        "the network was trained, such as likelihood=Quantile(q=...)"
    )


def all_labels(estimator: Any, classes: Any, y: Any, n_outputs: int | None) -> Any:
    """Return the labels of all outputs if y lacks some, else None."""
    if classes is not None:
        labels = np.asarray(classes)
        if not np.array_equal(np.unique(labels), labels):
            raise ValueError(
                f"classes={classes!r} is not sorted, or has a label twice: outputs belong to "
                "labels in sorted order. Rename the labels, for instance to numbers of outputs"
            )
        return classes
    if y is None or n_outputs is None or type(estimator.likelihood) is not Categorical:
        return None
    try:
        found = np.unique(np.asarray(y))
    except TypeError:  # labels without an order; fit refuses them
        return None
    numbers = found.dtype.kind in "iuf"
    if np.ndim(y) != 1 or len(found) in (0, n_outputs) or (numbers and (found % 1 != 0).any()):
        return None
    if numbers and np.isin(found, np.arange(n_outputs)).all():
        return np.arange(n_outputs, dtype=found.dtype)
    raise ValueError(
        f"the network has {n_outputs} outputs, but y has {len(found)} labels, {found[:10]}: give "
        "all labels in the order of the outputs, classes=..., or the likelihood with which the "
        "network was trained"
    )
