"""Shared by estimators around another estimator: calibrators, test-time augmentation."""

from __future__ import annotations

import inspect
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import sklearn
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    check_cv,
)
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import has_fit_parameter

from skuq._composition import see_through
from skuq._data._checks import shape_of
from skuq._data._indexed import IndexedDataset
from skuq._data._streams import is_dataset, with_targets
from skuq._utils._messages import warn
from skuq._utils._progress import Task
from skuq._utils._random import Purpose, derive_seed, root_seed
from skuq._utils._sklearn_compat import validate_parameter_constraints

__all__ = [
    "Around",
    "checked_validation",
    "fit_clone",
    "folds_of",
    "learns_several_labels",
    "ignore_label_of",
    "innermost",
    "segmenter_in",
    "share_of_rows_seen",
    "warn_of_rows_seen",
]

_MANY_SEEN = 0.1  # share of rows seen in training; above it, warn


class Around:
    """Mixin of estimators that have an `estimator` and, once fitted, an `estimator_`."""

    estimator: Any
    estimator_: Any

    _reads_datasets: ClassVar[bool] = True  # if the estimator is frozen
    _parameter_constraints: ClassVar[dict[str, Any]]

    def _check_call_of_fit(self, X: Any, y: Any) -> tuple[Any, Any]:
        """Check parameters, and return X and y, which a Dataset may hold; y is needed."""
        name, parameters = type(self).__name__, self.get_params(deep=False)  # type: ignore[attr-defined]
        validate_parameter_constraints(self._parameter_constraints, parameters, name)
        if is_dataset(X) and not self._reads_datasets:
            raise ValueError(
                f"X is a {type(X).__name__}; expected an array, as {name} looks at all rows at "
                "once. Stack the rows first: np.stack([x for x, _ in dataset])"
            )
        chooses = is_dataset(X) and not isinstance(X, IndexedDataset)
        if chooses and not isinstance(self.estimator, FrozenEstimator):
            raise ValueError(
                f"X is a {type(X).__name__}; expected an array, as {name} fits its estimator on "
                "parts of the rows. Give skuq.datasets.IndexedDataset(dataset), whose rows folds "
                "can choose; or fit the estimator on one Dataset, and give "
                f"{name}(FrozenEstimator(estimator)) another Dataset, with other rows"
            )
        X, y = with_targets(X, y)
        if y is None:
            raise ValueError(f"{name} requires y to be passed, but the target y is None")
        return X, y

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "estimator_")

    @property
    def n_features_in_(self) -> int:
        """Number of features that the estimator was fitted on."""
        return int(self._fitted_estimator("n_features_in_").n_features_in_)

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Names of the features that the estimator was fitted on."""
        names: np.ndarray = self._fitted_estimator("feature_names_in_").feature_names_in_
        return names

    def _fitted_estimator(self, attribute: str) -> Any:
        if not hasattr(self, "estimator_"):
            raise AttributeError(f"{type(self).__name__} has no {attribute} before fit")
        return self.estimator_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        inner = get_tags(self.estimator)
        tags.input_tags.sparse = inner.input_tags.sparse
        tags.target_tags.multi_output = inner.target_tags.multi_output
        tags.target_tags.positive_only = inner.target_tags.positive_only
        if tags.classifier_tags is not None and inner.classifier_tags is not None:
            tags.classifier_tags.multi_label = inner.classifier_tags.multi_label
            tags.classifier_tags.multi_class = inner.classifier_tags.multi_class
        return tags


def innermost(estimator: Any, X: Any) -> tuple[Any, Any]:
    """Find the estimator inside of all meta-estimators, skuq's own included, and its X.

    One of skuq's own that is around nothing, as on the columns of X, is the innermost itself.
    """
    leaf, X, _ = see_through(estimator, X)
    while isinstance(leaf, Around) and leaf.estimator_ is not None:
        leaf, X, _ = see_through(leaf.estimator_, X)
    return leaf, X


def label_names_of(estimator: Any) -> np.ndarray | None:
    """Return the names of the labels of a fitted classifier of several; None if it has none."""
    while estimator is not None:
        if isinstance(names := getattr(estimator, "label_names_", None), np.ndarray):
            return names
        inner = getattr(estimator, "estimator_", getattr(estimator, "best_estimator_", None))
        estimator = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else inner
    return None


def segmenter_in(estimator: Any) -> Any:
    """Find the segmenter inside, fitted or not; None if there is none."""
    while not hasattr(estimator, "ignore_label"):
        inner = getattr(estimator, "estimator", None)
        if isinstance(estimator, Pipeline):
            inner = estimator.steps[-1][1]
        if inner is None:
            return None
        estimator = inner
    return estimator


def learns_several_labels(estimator: Any, y: Any) -> bool:
    """Return whether y has a column of 0 and 1 for each label, and no probabilities of classes.

    The likelihood of the estimator inside knows, if it has one; y may then contain NaN.
    """
    inner = estimator
    while inner is not None and not hasattr(inner, "likelihood"):
        is_pipeline = isinstance(inner, Pipeline)
        inner = inner.steps[-1][1] if is_pipeline else getattr(inner, "estimator", None)
    likelihood = getattr(inner, "likelihood", None)
    if getattr(likelihood, "takes_probabilities", False):
        return False
    if getattr(likelihood, "takes_missing", False):
        shape = shape_of(y)
        return len(shape) == 2 and shape[1] > 1
    return bool(type_of_target(y) == "multilabel-indicator")


def ignore_label_of(estimator: Any) -> Any:
    """Return the label of pixels that do not count for the segmenter inside; None if none has."""
    return getattr(segmenter_in(estimator), "ignore_label", None)


def fit_clone(
    task: Task, estimator: Any, X: Any, y: np.ndarray, weight: np.ndarray | None, **more: Any
) -> Any:
    """Fit a copy of the estimator; watchers of `task` watch this fit."""
    estimator = clone(estimator)
    weights = {} if weight is None else {_weight_argument(estimator): weight}
    with task.of(estimator):
        if isinstance(X, IndexedDataset):  # it has the targets
            return estimator.fit(X, **weights, **more)
        return estimator.fit(X, y, **weights, **more)


def checked_validation(around: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Return validation rows for the fit of the estimator inside; refuse them where they are lost.

    Parameters
    ----------
    around : Around
        The calibrator, or the like.
    given : dict
        What was given of X_val, y_val and sample_weight_val.
    """
    inner, name = around.estimator, type(around).__name__
    if not given:
        return given
    if isinstance(inner, FrozenEstimator):
        raise ValueError(
            f"X_val is for training, but the estimator of {name} is frozen: leave X_val out"
        )
    routed = sklearn.get_config()["enable_metadata_routing"]
    if not routed and not has_fit_parameter(inner, "X_val"):
        raise ValueError(
            f"X_val was given, but the fit of {type(inner).__name__} does not take it. A Pipeline "
            "does with metadata routing: make_pipeline(..., transform_input=['X_val']) and "
            "set_fit_request(X_val=True, y_val=True) of its last step"
        )
    return given


def _weight_argument(estimator: Any) -> str:
    """Find the name of the sample weights in `fit`."""
    open_ended = any(
        parameter.kind is parameter.VAR_KEYWORD and parameter.name == "fit_params"
        for parameter in inspect.signature(estimator.fit).parameters.values()
    )
    votes = open_ended and hasattr(estimator, "estimators")  # VotingClassifier, VotingRegressor
    if has_fit_parameter(estimator, "sample_weight") or votes:
        return "sample_weight"
    if sklearn.get_config()["enable_metadata_routing"]:
        return "sample_weight"
    if isinstance(estimator, Pipeline):
        name, last = estimator.steps[-1]
        return f"{name}__{_weight_argument(last)}"
    inner = getattr(estimator, "estimator", getattr(estimator, "regressor", None))
    if inner is None:
        raise ValueError(
            f"sample_weight was given, but {type(estimator).__name__}.fit does not take it"
        )
    return _weight_argument(inner)


def folds_of(
    cv: Any, X: Any, y: Any, groups: Any, *, classifies: bool, random_state: Any
) -> list[tuple[np.ndarray, np.ndarray]]:
    """List the rows to train on and the rows left out, for each fold.

    A number makes shuffled folds. Rows often come in an order that depends on their targets, and an
    estimator that missed a whole range of targets errs in another way than one that saw all. Folds
    of classes are stratified, and rows of one group stay together. A splitter, or a list of splits,
    is used unchanged. Each fold must leave rows out.
    """
    splitter = check_cv(cv, y, classifier=classifies)
    if cv is None or isinstance(cv, Integral):
        stratified = isinstance(splitter, StratifiedKFold)
        if groups is None:
            kind = StratifiedKFold if stratified else KFold
        else:
            kind = StratifiedGroupKFold if stratified else GroupKFold
        seed = derive_seed(root_seed(random_state), Purpose.SPLIT) % 2**32
        splitter = kind(splitter.get_n_splits(), shuffle=True, random_state=seed)
    splits = [(_places(train), _places(test)) for train, test in splitter.split(X, y, groups)]
    if not splits:
        raise ValueError(
            f"cv={cv!r} gave no split; expected at least 1. The splits of a generator can be used "
            "once: give list(splits)"
        )
    for fold, (train, test) in enumerate(splits):
        if not len(train) or not len(test):
            raise ValueError(
                "each split of cv must have rows to learn from and rows left out, got "
                f"{len(train)} and {len(test)} in fold {fold}"
            )
    return splits


def _places(rows: Any) -> np.ndarray:
    """Return the places of rows that are given by their places, or by a mask."""
    index = np.asarray(rows)
    return np.flatnonzero(index) if index.dtype == bool else index


def share_of_rows_seen(frozen: Any, X: Any) -> float:
    """Return the share of these rows that trained a frozen estimator.

    It is 0 for estimators of others, and NaN for one from a file that does not say.
    """
    leaf, inner = innermost(frozen, X)
    return float(leaf._share_seen(inner)) if hasattr(leaf, "_share_seen") else 0.0


def warn_of_rows_seen(frozen: Any, X: Any, to: str = "calibrate it") -> None:
    """Warn if a frozen estimator was trained on many of these rows."""
    share = share_of_rows_seen(frozen, X)
    if share > _MANY_SEEN:
        warn(
            f"the frozen {type(innermost(frozen, X)[0]).__name__} was trained on {share:.0%} of "
            f"the rows that are to {to}. It is right too often on them, so the result will be "
            "overconfident: give other rows, or the estimator unfrozen with cv.",
            UserWarning,
        )
