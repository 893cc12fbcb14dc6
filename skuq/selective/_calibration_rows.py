"""Where calibration rows come from, and what another object says of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GroupShuffleSplit, train_test_split
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from skuq._data._checks import refuse_no_groups
from skuq._data._indexed import IndexedDataset
from skuq._data._streams import is_dataset
from skuq._meta import fit_clone, share_of_rows_seen
from skuq._utils._messages import unfrozen
from skuq._utils._progress import Task
from skuq._utils._random import Purpose, derive_seed, root_seed
from skuq._utils._sklearn_compat import _safe_indexing
from skuq._utils._typing import RandomState

__all__ = ["CalibrationRows", "calibration_rows", "check_detector", "novelty_of"]


class CalibrationRows(NamedTuple):
    """A fitted estimator, and rows to choose its threshold on.

    Attributes
    ----------
    estimator : object
        The fitted estimator.
    X, y : array-like
        The calibration rows and their targets.
    doubts : list of str
        Why these rows can certify nothing.
    """

    estimator: Any
    X: Any
    y: np.ndarray
    doubts: list[str]


def calibration_rows(
    estimator: Any,
    task: Task,
    X: Any,
    y: np.ndarray,
    weight: np.ndarray | None,
    groups: Any,
    size: float,
    random_state: RandomState,
) -> CalibrationRows:
    """Fit an estimator on a part of the rows and return the others, or all if it is frozen.

    Parameters
    ----------
    estimator : object
        An estimator, or a fitted one as a FrozenEstimator.
    task : Task
        The task of `fit`, which begins here.
    X, y, weight, groups : array-like
        The rows, checked; `weight` and `groups` may be None.
    size : float or int
        Share or number of the calibration rows.
    random_state : int, RandomState instance or None
        Seed of the split.
    """
    frozen, doubts = isinstance(estimator, FrozenEstimator), list[str]()
    if groups is not None:
        check_consistent_length(y, groups)
        refuse_no_groups(groups)
    if frozen:
        task.begin()
        check_is_fitted(unfrozen(estimator))
        held = np.arange(len(y))
    else:
        train, held = _split(len(y), groups, size, random_state)
        task.begin(1, of="fit")
        whole = task.subtask("fit-estimator").begin()
        part = None if weight is None else weight[train]
        estimator = fit_clone(whole, estimator, _safe_indexing(X, train), y[train], part)
        whole.end()
    if weight is not None and not weight[held].all():
        held = held[weight[held] > 0]
        if not len(held):
            raise ValueError("sample_weight is zero for all calibration rows; expected some above")
    if groups is not None:
        doubts = _doubts_about_groups(np.asarray(groups)[held])
    if len(held) < len(y):
        if is_dataset(X) and not isinstance(X, IndexedDataset):
            raise ValueError("sample_weight of 0 cannot leave out rows of a Dataset; use a Subset")
        X, y = _safe_indexing(X, held), y[held]
    if frozen:
        doubts = [*_doubts_about_seen(estimator, X, len(y)), *doubts]
    return CalibrationRows(estimator, X, y, doubts)


def _split(
    n_rows: int, groups: Any, size: float, random_state: RandomState
) -> tuple[np.ndarray, np.ndarray]:
    """Split rows at random, without strata: calibration rows are then independent draws."""
    seed = derive_seed(root_seed(random_state), Purpose.SPLIT) % 2**32
    rows = np.arange(n_rows)
    if groups is not None:
        if len(np.unique(groups)) < 2:
            raise ValueError(
                "groups holds one group only, which cannot both train and calibrate; give at least "
                "2 groups, or a fitted estimator as FrozenEstimator(estimator)"
            )
    if groups is None:
        train, held = train_test_split(rows, test_size=size, random_state=seed)
    else:
        splitter = GroupShuffleSplit(1, test_size=size, random_state=seed)
        train, held = next(splitter.split(rows, groups=groups))
    return np.sort(train), np.sort(held)


def _doubts_about_seen(estimator: Any, X: Any, n_rows: int) -> list[str]:
    share = share_of_rows_seen(estimator, X)
    if share == 0:
        return []
    if np.isnan(share):
        return [
            "the frozen estimator comes from a file that does not say which rows trained it; load "
            "one that was saved with keep_rows=True"
        ]
    return [
        f"{max(1, round(share * n_rows))} of the {n_rows} calibration rows equal rows that trained "
        "the frozen estimator; leave them out"
    ]


def _doubts_about_groups(groups: np.ndarray) -> list[str]:
    n_groups = len(np.unique(groups))
    if n_groups == len(groups):
        return []
    return [
        f"the {len(groups)} calibration rows come from {n_groups} groups, and rows of one group "
        "depend on each other; give one row of each group"
    ]


def check_detector(detector: Any) -> Any:
    """Return a fitted detector of novelties, out of its FrozenEstimator; refuse others."""
    inner = unfrozen(detector)
    if not hasattr(inner, "predict_novelty"):
        raise TypeError(
            "uncertainty must be the name of a measure or a fitted object with predict_novelty, "
            f"got {type(inner).__name__}"
        )
    try:
        check_is_fitted(inner)
    except NotFittedError:
        raise NotFittedError(
            f"the {type(inner).__name__} given as uncertainty is not fitted. Copies of a fitted "
            "one, as in a search, are not fitted either: give FrozenEstimator(detector)"
        ) from None
    return inner


def novelty_of(detector: Any, X: Any) -> np.ndarray:
    """Ask a fitted detector how strange rows are."""
    novelty: np.ndarray = check_detector(detector).predict_novelty(X)
    return novelty
