"""Parts of `from_trained`: rows, the likelihood of the outputs, and their labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.utils.validation import check_array
from torch import Tensor
from torch.utils.data import IterableDataset

from skuq._data._checks import checks_of_rows, dense
from skuq._data._inputs import Inputs, Packer, packed, planned
from skuq._data._streams import is_dataset
from skuq._estimator._columns import is_mixed_table
from skuq._networks._inputs import Layout
from skuq._networks._module import Numerics, first_rows
from skuq._utils._sklearn_compat import _safe_indexing
from skuq.likelihoods import Bernoulli, Categorical, Gaussian, Likelihood

__all__ = [
    "all_labels",
    "check_order",
    "chosen_likelihood",
    "first_rows_of",
    "label_order",
    "plain_numbers",
    "refuse_soft_labels",
    "sliceable",
]


def sliceable(values: Any) -> Any:
    """Return a sparse matrix in a format that has rows, and anything else unchanged."""
    return values.tocsr() if issparse(values) and values.ndim == 2 else values


def first_rows_of(X: Any, y: Any, numerics: Numerics) -> tuple[Tensor, Any, Layout | None]:
    """Return three rows of X, the first target (None without y), and the layout of several inputs.

    Raises
    ------
    ValueError
        If X is a data frame with categories: the codes of training are not known.
    """
    checks = {**checks_of_rows(numerics), "ensure_all_finite": False}
    packer, part = Packer(None, checks["dtype"]), X
    if is_dataset(X):
        x, target = (next(iter(X)) if isinstance(X, IterableDataset) else X[0])[:2]
        part, target = np.asarray(packer(x))[None], np.asarray(target)
    else:
        part = _safe_indexing(X, slice(0, 3)) if hasattr(X, "__len__") or hasattr(X, "shape") else X
        target = None if y is None else np.asarray(dense(_safe_indexing(y, slice(0, 1))))
        target = target[0] if target is not None and len(target) else None
    layout = packer.layout
    if is_mixed_table(part):
        raise ValueError(
            "X has categorical columns, and the codes that the network was trained with are not "
            "known: give skuq.Inputs(numbers=..., codes=...) with these codes"
        )
    if isinstance(part, Inputs):
        layout = planned(part)
        part = packed(part, layout, checks["dtype"])
    rows = torch.as_tensor(np.array(dense(check_array(part, input_name="X", **checks))))
    return first_rows(rows.to(numerics.device, numerics.dtype), 3), target, layout


def chosen_likelihood(
    task: str, likelihood: Likelihood | None, n_outputs: int | None, target: Any, scale: Any
) -> Likelihood | None:
    """Choose the likelihood of the outputs, in the units in which the network was trained."""
    if task != "regression":
        if scale is not None:
            raise ValueError("target_scale is for task='regression': labels have no scale")
        if likelihood is None and n_outputs is not None:
            several = np.ndim(target) == 3 if task == "segmentation" else np.size(target) > 1
            likelihood = Bernoulli() if n_outputs == 1 or several else Categorical()
        return likelihood
    if likelihood is None:
        likelihood = _gaussian(n_outputs, np.size(target))
    likelihood = clone(likelihood)
    if "standardise" in likelihood.get_params():
        own = likelihood.get_params()["standardise"]
        if (
            isinstance(own, bool | np.bool_) and own
        ):  # it would standardise with these rows, which did not train the network
            likelihood.set_params(standardise=False if scale is None else plain_numbers(scale))
        elif scale is not None:
            raise ValueError(
                f"target_scale and {likelihood} both give the units of the network: leave one out"
            )
    elif scale is not None:
        raise ValueError(
            f"target_scale={plain_numbers(scale)!r} sets units, but {type(likelihood).__name__} "
            "has none: leave it out"
        )
    return likelihood


def plain_numbers(pair: Any) -> tuple[Any, ...]:
    """Return a pair with Python's numbers in place of NumPy's, which messages would show."""
    return tuple(value.item() if isinstance(value, np.generic) else value for value in pair)


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


def label_order(classes: Any) -> np.ndarray | None:
    """Return the numbers of outputs in the order of the sorted labels; None if that is theirs."""
    if classes is None:
        return None
    labels = np.asarray(classes)
    if labels.ndim != 1 or len(np.unique(labels)) != len(labels):
        raise ValueError(
            f"classes={labels.tolist()!r} must be a list of all labels, each once, in the order of "
            "the outputs"
        )
    order = np.argsort(labels, kind="stable")
    return None if (order == np.arange(len(labels))).all() else order


def refuse_soft_labels(likelihood: Likelihood | None) -> None:
    """Refuse targets that are probabilities of classes, of which nothing could be learnt."""
    if likelihood is not None and likelihood.takes_probabilities:
        raise ValueError(
            "from_trained trains nothing, so it needs labels in y only to name the outputs: leave "
            "soft_labels of the likelihood out, and give a label for each row"
        )


def check_order(order: np.ndarray | None, likelihood: Any, is_instance: bool) -> None:
    """Refuse labels in another order than sorted where skuq cannot move the outputs."""
    if order is None or (is_instance and type(likelihood) in (Categorical, type(None))):
        return
    reason = f"not for {likelihood}" if is_instance else "and module is a function or class"
    raise ValueError(
        "classes is not sorted. skuq sorts labels, and moves the outputs of networks that are "
        f"given as instances and end in logits for Categorical(), {reason}. Return outputs in the "
        "order of the sorted labels, or rename the labels, for instance to numbers of outputs"
    )


def all_labels(
    y: np.ndarray, classes: Any, likelihood: Likelihood | None, n_outputs: int | None
) -> Any:
    """Return the labels of all outputs if y lacks some, else None."""
    if classes is not None:
        return np.sort(np.asarray(classes))
    kind, one_logit = type(likelihood), type(likelihood) is Bernoulli and n_outputs == 1
    if n_outputs is None or y.ndim != 1 or (kind is not Categorical and not one_logit):
        return None
    n_labels = 2 if one_logit else n_outputs
    try:
        found = np.unique(y)
    except TypeError:  # labels without an order; fit refuses them
        return None
    numbers = found.dtype.kind in "iuf"
    if len(found) in (0, n_labels) or (numbers and (found % 1 != 0).any()):
        return None
    if numbers and np.isin(found, np.arange(n_labels)).all():
        return np.arange(n_labels, dtype=found.dtype)
    if found.dtype.kind == "b" and n_labels == 2:
        return np.array([False, True])
    outputs = "1 output, for two labels" if one_logit else f"{n_outputs} outputs"
    raise ValueError(
        f"the network has {outputs}, but y has {len(found)} labels, {found[:10]}: give "
        "all labels in the order of the outputs, classes=..., or the likelihood with which the "
        "network was trained"
    )
