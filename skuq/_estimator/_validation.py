"""The validation rows that a user gives to `fit`, beside those that training learns from."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from skuq._data._checks import checks_of_rows
from skuq._data._streams import is_dataset, streamed_if_mapped
from skuq._estimator._reading import TrainingData
from skuq._networks._module import Numerics
from skuq.likelihoods import Likelihood

__all__ = ["GivenValidation", "read_validation"]


class GivenValidation(NamedTuple):
    """Validation rows as `fit` got them; None where there are none."""

    X: Any
    y: Any
    sample_weight: Any


def read_validation(
    reader: Any,
    given: GivenValidation | None,
    data: TrainingData,
    likelihood: Likelihood,
    numerics: Numerics,
    root: int,
) -> TrainingData | None:
    """Check validation rows against the training rows, and weight them in the same way.

    Parameters
    ----------
    reader : Reading
        The estimator, which has read the training rows.
    given : GivenValidation or None
        The validation rows.
    data : TrainingData
        The training rows; their weights of classes hold for the validation rows, too.
    likelihood, numerics, root : as in `fit`
        The likelihood, the numbers of the network and the seed.
    """
    if given is None or all(part is None for part in given):
        return None
    if given.X is None:
        raise ValueError("y_val and sample_weight_val belong to rows: expected X_val, got None")
    if given.y is None and not is_dataset(given.X):
        raise ValueError(
            "X_val needs targets: expected y_val, or X_val a torch Dataset of pairs (x, y)"
        )
    try:
        return _read(reader, given, data, likelihood, numerics, root)
    except ValueError as error:
        raise ValueError(f"X_val and y_val cannot be used: {error}") from error


def _read(
    reader: Any,
    given: GivenValidation,
    data: TrainingData,
    likelihood: Likelihood,
    numerics: Numerics,
    root: int,
) -> TrainingData:
    X, y, weight = given
    checks, stream = checks_of_rows(numerics), None
    if is_dataset(X):
        stream, X, y = reader._read(X, y, checks, root)
    else:
        X = reader._packed(X, checks, learn=False)
    classes = reader._given_classes(y, None)  # a frame of probabilities names its columns
    X, y, missing = reader._check_data(X, y, likelihood, checks, reset=False)
    X = streamed_if_mapped(X) if stream is None else stream
    reader._check_dimensions(X)
    _refuse_unknown_labels(reader, y)
    target = reader._read_targets(y, reset=False, classes=classes)
    if missing is not None:
        target = np.where(missing, np.nan, target)
    found: TrainingData = reader._weighted_rows(X, target, weight, None, known=data)
    if found.places != data.places:
        raise ValueError(
            f"its images have places {found.places}, those of X {data.places}; expected one size"
        )
    return found


def _refuse_unknown_labels(reader: Any, y: np.ndarray) -> None:
    classes = getattr(reader, "classes_", None)
    if classes is None or y.ndim != 1:
        return
    unknown = np.setdiff1d(y, classes)
    if len(unknown):
        raise ValueError(
            f"y_val contains labels {unknown[:5]} that y does not, whose labels are {classes}; "
            "leave these rows out, or train on rows of these labels"
        )
