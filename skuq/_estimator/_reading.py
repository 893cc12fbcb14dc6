"""Read rows and targets: scikit-learn's checks, torch Datasets, weights."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from sklearn.utils.validation import (
    check_array,
    check_consistent_length,
    check_X_y,
    validate_data,
)

from skuq._data._checks import (
    CheckedRows,
    checks_of_rows,
    dense,
    given_weights,
    refuse_no_groups,
    rows_that_count,
    shape_of,
    split_missing,
)
from skuq._data._inputs import Inputs, Packer, as_inputs, packed, planned
from skuq._data._streams import Streamed, is_dataset, read_dataset, streamed_if_mapped
from skuq._engine._engine import Engine
from skuq._estimator._columns import Columns, is_mixed_table
from skuq._networks._inputs import Layout, reads_whole_rows
from skuq._networks._module import Numerics, call, private_copy
from skuq._utils._random import Purpose, derive_seed
from skuq.likelihoods import Likelihood

__all__ = ["Reading", "TrainingData"]


class TrainingData(NamedTuple):
    """The rows from which `fit` learns, without rows of weight zero."""

    X: Any  # ndarray or Streamed, of shape (n_rows, ...)
    target: np.ndarray
    weight: np.ndarray | None  # of mean 1; None if all are equal
    groups: Any
    amount: float  # the sum of the weights as given
    by_class: np.ndarray | None  # the weight of each class, where there is one
    # Makes targets and weights of targets that a stream reads anew, given the numbers of the rows.
    fresh: Any = None
    places: tuple[int, ...] = ()  # of a row that has a target for each: see `skuq._data._places`
    valid: Any = None  # TrainingData of the rows that a user gave to watch


class Reading:
    """Mixin of the steps of fit and predict that read data."""

    _engine: Engine
    _row_shape: tuple[int, ...]
    _layout: Layout | None = None  # of several inputs
    _columns: Columns | None = None  # of a data frame with categorical columns
    _is_dense: ClassVar[bool] = False  # whether it answers for each pixel of an image
    # Given by a subclass:
    _target_options: ClassVar[dict[str, Any]]  # how scikit-learn checks y

    def _read_targets(self, y: np.ndarray, reset: bool, classes: Any = None) -> np.ndarray:
        """Read targets for the likelihood; set the attributes that decode predictions."""
        raise NotImplementedError(f"{type(self).__name__} does not implement _read_targets")

    def _given_classes(self, y: Any, classes: Any) -> Any:
        """Return the names of the classes, as given or as the names of columns."""
        return classes

    def _class_weights(self, target: np.ndarray, weight: np.ndarray | None) -> np.ndarray | None:
        """Compute the weight of each class; `weight` holds the weights of rows."""
        return None

    def _read(
        self, dataset: Any, y: Any, checks: dict[str, Any], root: int
    ) -> tuple[Streamed, Any, Any]:
        """Return rows of a Dataset, a cheap stand-in for scikit-learn's checks, and targets."""
        if y is not None:
            raise ValueError(
                f"X is a {type(dataset).__name__}, whose items are pairs (x, y): expected y=None, "
                f"got y of type {type(y).__name__}. If its items are only x, give "
                "torch.utils.data.StackDataset(dataset, y) as X"
            )
        seed, packer = derive_seed(root, Purpose.OTHER), Packer(self._layout, checks["dtype"])
        stream, y = read_dataset(dataset, checks, with_targets=True, seed=seed, pack=packer)
        if packer.layout is not None:
            self._layout = packer.layout
        return stream, np.broadcast_to(stream[:1], stream.shape), y

    def _check_data(
        self, X: Any, y: Any, likelihood: Likelihood, checks: dict[str, Any], reset: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Check X and y; return where y was NaN, if the likelihood takes NaN (None otherwise)."""
        missing = None
        if likelihood.takes_missing and y is not None:
            y, missing = split_missing(y)
        if likelihood.takes_indicators or likelihood.takes_probabilities:
            checks = {**checks, "multi_output": True}
        options = {**checks, **self._target_options}
        if self._layout is not None and y is not None:  # its names and numbers are checked
            X, y = check_X_y(X, y, estimator=self, **options)
            if reset and self._columns is None:
                self.__dict__.pop("feature_names_in_", None)
                self.n_features_in_ = sum(part.width for part in self._layout.fixed) + (
                    X.shape[1] - self._layout.n_fixed
                )
        else:
            X, y = validate_data(self, X, y, reset=reset, **options)
        return dense(X), dense(y), missing

    def _check_rows(self, X: Any) -> Any:
        """Check X for a prediction; return an array, a stream, or the tensor of `CheckedRows`."""
        if isinstance(X, CheckedRows):
            return X.tensor
        checks, stream = checks_of_rows(self._engine.numerics), None
        if is_dataset(X):
            packer = None if self._layout is None else Packer(self._layout, checks["dtype"])
            stream, _ = read_dataset(X, checks, with_targets=False, pack=packer)
            X = np.broadcast_to(stream[:1], stream.shape)
        else:
            X = self._packed(X, checks, learn=False)
        X = self._check_more_rows(X, checks)
        return dense(X) if stream is None else stream

    def _check_more_rows(self, X: Any, checks: dict[str, Any]) -> Any:
        """Check rows beside those of `fit`, of which only the axes need to be the same."""
        if len(self._row_shape) == 1 and not self._has_free_length(X):
            X = validate_data(self, X, reset=False, **checks)
        else:
            X = check_array(X, input_name="X", estimator=self, **checks)
        self._check_dimensions(X)
        return X

    def _check_dimensions(self, X: Any) -> None:
        if X.ndim != len(self._row_shape) + 1:
            raise ValueError(
                f"X has rows of shape {X.shape[1:]}, but {type(self).__name__} was fitted on rows "
                f"of shape {self._row_shape}"
            )

    def _packed(self, X: Any, checks: dict[str, Any], learn: bool) -> Any:
        """Make rows of several inputs; return other rows unchanged."""
        if self._is_dense:
            return X
        X = as_inputs(X)
        if learn and is_mixed_table(X):
            self._columns = Columns.of(X)
        if self._columns is not None:
            self._columns.check(X)
            validate_data(self, X, reset=learn, skip_check_array=True)
            X = self._columns.inputs(X)
        if isinstance(X, Inputs):
            if learn:
                self._layout = planned(X, () if self._columns is None else self._columns.sizes)
            if self._layout is None:
                raise ValueError(
                    f"X has the inputs {sorted(X.arrays)}, but {type(self).__name__} was fitted on "
                    "one array"
                )
            return packed(X, self._layout, checks["dtype"])
        if self._layout is not None:
            raise ValueError(
                f"{type(self).__name__} was fitted on the inputs "
                f"{[part.name for part in self._layout.parts]}, got X of type {type(X).__name__}; "
                "expected a dict of arrays, or skuq.Inputs"
            )
        return X

    def _has_free_length(self, X: Any) -> bool:
        """Return whether rows may have another width than in `fit`."""
        if self._layout is not None:
            return True
        shape = shape_of(X)
        if len(shape) != 2 or len(self._row_shape) != 1 or shape[1] == self._row_shape[0]:
            return False
        engine = self._engine
        network = private_copy(engine.draws.module)
        with torch.no_grad():
            run = partial(call, network, engine._sample, engine.numerics)
            return reads_whole_rows(network, engine._sample, run)

    def _check_warm_start(self, target: np.ndarray) -> None:
        """Refuse targets of another kind than in the last fit."""

    def _read_training_data(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        groups: Any,
        likelihood: Likelihood,
        numerics: Numerics,
        goes_on: bool,
        classes: Any,
        incremental: bool,
        root: int,
    ) -> TrainingData:
        """Check rows and targets of a fit; set the attributes that decode predictions."""
        checks, stream = checks_of_rows(numerics), None
        if not goes_on:
            self.__dict__.pop("_layout", None)
            self.__dict__.pop("_columns", None)
        if is_dataset(X):
            stream, X, y = self._read(X, y, checks, root)
        else:
            X = self._packed(X, checks, learn=not goes_on)
        # For images and sequences, only the number of dimensions must stay the same.
        reset = not goes_on or len(self._row_shape) > 1 or self._has_free_length(X)
        classes = self._given_classes(y, classes)
        X, y, missing = self._check_data(X, y, likelihood, checks, reset)
        X = streamed_if_mapped(X) if stream is None else stream
        if goes_on:
            self._check_dimensions(X)
        else:
            self._row_shape = X.shape[1:]
        target = self._read_targets(y, reset=not goes_on, classes=classes)
        if goes_on and not incremental:
            self._check_warm_start(target)
        if missing is not None:
            target = np.where(missing, np.nan, target)
        return self._weighted_rows(X, target, sample_weight, groups)

    def _weighted_rows(
        self,
        X: np.ndarray,
        target: np.ndarray,
        sample_weight: Any,
        groups: Any,
        known: TrainingData | None = None,
    ) -> TrainingData:
        """Drop rows of weight zero, and scale weights to mean 1 (None if all are equal).

        Weights of classes are those of the rows in `known`, if there are any.
        """
        check_consistent_length(X, target, groups)
        if groups is not None:
            refuse_no_groups(groups)
        weight = given_weights(sample_weight, X)
        by_class = known.by_class if known else self._class_weights(target, weight)
        if by_class is not None:
            certain = ~np.isnan(target)
            of_class = np.ones(len(target))
            of_class[certain] = by_class[target[certain].astype(np.int64)]
            weight = of_class if weight is None else of_class * weight
        amount = float(len(target) if weight is None else weight.sum())
        return TrainingData(*rows_that_count(X, target, weight, groups), amount, by_class)
