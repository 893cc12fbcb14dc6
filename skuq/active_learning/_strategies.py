"""Queries by name, and strategies that choose rows of X where y is missing."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, overload

import numpy as np
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.utils import check_random_state
from torch.utils.data import Dataset, Subset

from skuq._data._indexed import IndexedDataset
from skuq._data._inputs import as_inputs
from skuq._data._streams import is_dataset
from skuq._utils._messages import suggest
from skuq._utils._sklearn_compat import _safe_indexing
from skuq._utils._typing import ArrayLike, MatrixLike, RandomState
from skuq.active_learning import _scores
from skuq.active_learning._asked import (
    checked_numbers,
    count_rows,
    draws_of,
    embedding,
    has_network,
    layers_of,
)
from skuq.active_learning._badge import badge
from skuq.active_learning._batch_bald import batch_bald
from skuq.active_learning._core_set import core_set
from skuq.active_learning._egl_plus_plus import egl_plus_plus
from skuq.active_learning._gradient_length import (
    expected_gradient_length,
    expected_model_change,
)
from skuq.active_learning._labels import is_labelled, known_labels, label_array, seen_labels
from skuq.active_learning._select import checked_size, kmeans_weighted, select

__all__ = [
    "QueryStrategy",
    "ask_object",
    "choose",
    "names_of_queries",
    "pool_of",
    "rows_of",
    "training_rows",
]


@dataclass
class Pool:
    """What a query may look at: rows to choose from, and labelled ones."""

    X: Any
    X_labelled: Any
    y_labelled: Any


def _spread(estimator: Any, X: Any) -> np.ndarray:
    return _scores.variance(estimator, X, kind="epistemic")


# Queries that score each row.
_SCORES: dict[str, Callable[[Any, Pool, Any], np.ndarray]] = {
    "random": lambda e, pool, r: _scores.random_scores(e, pool.X, random_state=r),
    "entropy": lambda e, pool, r: _scores.entropy(e, pool.X),
    "margin": lambda e, pool, r: _scores.margin(e, pool.X),
    "least_confidence": lambda e, pool, r: _scores.least_confidence(e, pool.X),
    "variation_ratio": lambda e, pool, r: _scores.variation_ratio(e, pool.X),
    "bald": lambda e, pool, r: _scores.bald(e, pool.X),
    "mean_std": lambda e, pool, r: _scores.mean_std(e, pool.X),
    "variance": lambda e, pool, r: _scores.variance(e, pool.X),
    "epistemic": lambda e, pool, r: _spread(e, pool.X),
    "egl": lambda e, pool, r: expected_gradient_length(e, pool.X),
    "model_change": lambda e, pool, r: expected_model_change(e, pool.X),
    "egl_plus_plus": lambda e, pool, r: egl_plus_plus(e, pool.X, pool.X_labelled),
}


def _core_set(estimator: Any, pool: Pool, n: int, random: Any) -> np.ndarray:
    known = embedding(estimator, pool.X_labelled)
    return core_set(embedding(estimator, pool.X), known, n, random_state=random)


def _batch_bald(estimator: Any, pool: Pool, n: int, random: Any) -> np.ndarray:
    return batch_bald(draws_of(estimator, pool.X, "batch_bald"), n, random_state=random)


def _kmeans(estimator: Any, pool: Pool, n: int, random: Any) -> np.ndarray:
    classifies = is_classifier(estimator)
    scores = (_scores.margin if classifies else _scores.variance)(estimator, pool.X)
    return kmeans_weighted(embedding(estimator, pool.X), scores, n, random_state=random)


# Queries that choose rows together.
_BATCHES: dict[str, Callable[[Any, Pool, int, Any], np.ndarray]] = {
    "badge": lambda e, pool, n, r: badge(e, pool.X, n, random_state=r),
    "batch_bald": _batch_bald,
    "core_set": _core_set,
    "kmeans": _kmeans,
}


def names_of_queries() -> list[str]:
    """List the names that `strategy` may have, "auto" left out."""
    return sorted({*_SCORES, *_BATCHES})


def _auto(estimator: Any) -> str:
    return "margin" if is_classifier(estimator) else "core_set"


def check_strategy(strategy: Any) -> None:
    """Refuse what is no query."""
    if isinstance(strategy, str):
        names = ["auto", *names_of_queries()]
        if strategy not in names:
            raise ValueError(
                f"strategy={strategy!r} is no query.{suggest(strategy, names)} There are "
                f"{', '.join(map(repr, names))}; or give a function of (estimator, pool)"
            )
    elif isinstance(strategy, type) or not (callable(strategy) or hasattr(strategy, "query")):
        raise TypeError(
            f"strategy must be the name of a query, a function of (estimator, pool), or an object "
            f"with a method query, got {strategy!r}"
        )


def choose(
    strategy: Any, estimator: Any, pool: Pool, n: int, random: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the places of the chosen rows in the pool, and the scores of all if there are any."""
    name = _auto(estimator) if isinstance(strategy, str) and strategy == "auto" else strategy
    if isinstance(name, str) and name in _BATCHES:
        return _BATCHES[name](estimator, pool, n, random), None
    if isinstance(name, str):
        scores = _SCORES[name](estimator, pool, random)
    else:
        takes_seed = "random_state" in _parameters(name)
        scores = name(estimator, pool.X, **({"random_state": random} if takes_seed else {}))
        n_rows = count_rows(pool.X)
        if np.shape(scores) != (n_rows,):
            raise ValueError(
                f"the query must return a score for each of the {n_rows} rows of the pool, got "
                f"shape {np.shape(scores)}"
            )
    scores = checked_numbers(scores, "scores")
    return select(scores, n, random_state=random), scores


def _parameters(function: Any) -> set[str]:
    try:
        return set(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return set()


def rows_of(X: Any, index: np.ndarray) -> Any:
    """Return some rows of an array, a data frame, a sparse matrix or a Dataset."""
    if is_dataset(X):
        return Subset(X, index.tolist())
    if hasattr(X, "tocsr"):
        X = X.tocsr()
    elif not hasattr(X, "__getitem__"):
        X = np.asarray(X)
    return _safe_indexing(X, index)


class _LabelledItems(Dataset[Any]):
    """Items of a Dataset, with the labels that are known now instead of their own."""

    def __init__(self, X: Any, y: np.ndarray) -> None:
        self._X, self._y = X, y

    def __len__(self) -> int:
        return len(self._y)

    def __getitem__(self, place: int) -> tuple[Any, Any]:
        item = self._X[place]
        return (item[0] if isinstance(item, tuple | list) else item), self._y[place]


def training_rows(X: Any, y: np.ndarray) -> tuple[Any, np.ndarray | None]:
    """Return rows and labels as `fit` takes them: of a Dataset together, as its items."""
    return (IndexedDataset(_LabelledItems(X, y)), None) if is_dataset(X) else (X, y)


def ask_object(
    strategy: Any, X: Any, y: np.ndarray, labelled: np.ndarray, estimator: Any,
    candidates: np.ndarray, batch_size: int,
) -> np.ndarray:  # fmt: skip
    """Let an object with a method `query` choose; refuse rows that it may not choose."""
    chosen = np.asarray(
        strategy.query(
            X,
            seen_labels(y, labelled, strategy),
            estimator,
            candidates=candidates,
            batch_size=batch_size,
        )
    )
    if chosen.ndim != 1 or chosen.dtype.kind not in "iu" or not len(chosen):
        raise ValueError(
            f"query of {type(strategy).__name__} must return places in X, at least one, got "
            f"{chosen!r:.80}"
        )
    if len(np.unique(chosen)) < len(chosen) or not np.isin(chosen, candidates).all():
        raise ValueError(
            f"query of {type(strategy).__name__} must return different candidates without a "
            f"label, got {chosen.tolist()[:10]}"
        )
    return chosen


class _MappedRows(Dataset[Any]):
    """Some rows of a memory map, read one by one when they are needed."""

    def __init__(self, X: np.memmap, index: np.ndarray) -> None:
        self._X, self._index = X, index

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, place: int) -> np.ndarray:
        return np.array(self._X[self._index[place]])


def pool_of(estimator: Any, X: Any, index: np.ndarray) -> Any:
    """Return some rows to choose from; those of a memory map stay on the disk for a network."""
    if isinstance(X, np.memmap) and has_network(estimator):
        if not any(hasattr(each, "steps") for each in layers_of(estimator)):
            return _MappedRows(X, index)
    return rows_of(X, index)


class QueryStrategy(BaseEstimator):
    """A query without state, whose method takes all labels, missing ones included.

    The method has the arguments of scikit-activeml's strategies for what they share.

    Parameters
    ----------
    strategy : str or callable, default="auto"
        The name of a query, as in `ActiveLearner`, or a function of (estimator, pool) that returns
        scores.
    missing_label : scalar, default=None
        What stands in y for a label that is missing, such as −1. None takes NaN, None and pandas'
        NA.
    random_state : int, RandomState instance or None, default=None
        Seed of random queries, and of the order of equal scores.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skuq.active_learning import QueryStrategy
    >>> X, y = load_iris(return_X_y=True)
    >>> y = np.where(np.arange(150) % 10, np.nan, y)  # every tenth label is known
    >>> strategy = QueryStrategy("margin", random_state=0)
    >>> estimator = LogisticRegression(max_iter=500)
    >>> strategy.query(X, y, estimator, batch_size=3, fit=True).shape
    (3,)
    """

    def __init__(
        self,
        strategy: Any = "auto",
        *,
        missing_label: Any = None,
        random_state: RandomState = None,
    ) -> None:
        self.strategy = strategy
        self.missing_label = missing_label
        self.random_state = random_state

    @overload
    def query(
        self, X: MatrixLike, y: ArrayLike, estimator: Any, *, candidates: ArrayLike | None = ...,
        batch_size: int = ..., fit: bool = ..., return_scores: Literal[False] = ...,
    ) -> np.ndarray: ...  # fmt: skip

    @overload
    def query(
        self, X: MatrixLike, y: ArrayLike, estimator: Any, *, candidates: ArrayLike | None = ...,
        batch_size: int = ..., fit: bool = ..., return_scores: Literal[True],
    ) -> tuple[np.ndarray, np.ndarray]: ...  # fmt: skip

    def query(
        self,
        X: MatrixLike,
        y: ArrayLike,
        estimator: Any,
        *,
        candidates: ArrayLike | None = None,
        batch_size: int = 1,
        fit: bool = False,
        return_scores: bool = False,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Choose rows to label.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or map-style torch Dataset of rows
            All rows, labelled or not.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Their labels, with `missing_label` where there is none.
        estimator : object
            A classifier or regressor, fitted on the labelled rows.
        candidates : array-like of int, default=None
            Places of the rows that may be chosen; None takes all that have no label.
        batch_size : int, default=1
            How many rows to choose; fewer candidates are all chosen.
        fit : bool, default=False
            Whether to fit a copy of the estimator on the labelled rows first.
        return_scores : bool, default=False
            Whether to return the scores, too.

        Returns
        -------
        ndarray of int of shape (batch_size,), or a pair
            Places in X, the best first; with ``return_scores``, also an array of shape
            (n_samples,): scores of the candidates, and NaN elsewhere.

        Raises
        ------
        ValueError
            If a candidate has a label, nothing is labelled or everything, or the query chooses rows
            together and has no scores to return.
        """
        check_strategy(self.strategy)
        X, labels, n_rows = as_inputs(X), label_array(y), count_rows(X)
        if len(labels) != n_rows:
            raise ValueError(f"X has {n_rows} rows and y {len(labels)}; expected equal")
        labelled = is_labelled(labels, self.missing_label)
        places = _checked_candidates(candidates, labelled)
        checked_size(batch_size, len(places))
        if not labelled.any() and (fit or self.strategy != "random"):
            raise ValueError("no row of y has a label; label a few random rows first")
        known = known_labels(labels, labelled)
        X_labelled = rows_of(X, np.flatnonzero(labelled))
        if fit:
            estimator = clone(estimator).fit(*training_rows(X_labelled, known))
        pool = Pool(pool_of(estimator, X, places), X_labelled, known)
        random = check_random_state(self.random_state)
        if hasattr(self.strategy, "query"):
            if return_scores:
                raise ValueError("a strategy with a method query has no scores; call it yourself")
            return ask_object(self.strategy, X, labels, labelled, estimator, places, batch_size)
        found, scores = choose(self.strategy, estimator, pool, batch_size, random)
        if not return_scores:
            return np.asarray(places[found])
        if scores is None:
            raise ValueError(
                f"strategy={self.strategy!r} chooses rows together and has no scores; use "
                "return_scores=False"
            )
        everywhere = np.full(n_rows, np.nan)
        everywhere[places] = scores
        return places[found], everywhere


def _checked_candidates(candidates: Any, labelled: np.ndarray) -> np.ndarray:
    """Return the places of rows that may be chosen; refuse labelled ones."""
    if candidates is None:
        places = np.flatnonzero(~labelled)
        if not len(places):
            raise ValueError("all rows of y have a label already; nothing is left to ask for")
        return places
    places = np.asarray(candidates)
    if places.ndim != 1 or places.dtype.kind not in "iu" or not len(places):
        raise ValueError(f"candidates must be places in X, at least one, got {candidates!r:.80}")
    if places.min() < 0 or places.max() >= len(labelled) or len(np.unique(places)) < len(places):
        raise ValueError(f"candidates must be different places from 0 to {len(labelled) - 1}")
    if labelled[places].any():
        have = places[labelled[places]][:5].tolist()
        raise ValueError(f"candidates have labels already: rows {have}; leave them out")
    return places
