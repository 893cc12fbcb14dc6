"""The rows on which a likelihood learns its noise: if possible, rows that training has not seen.

On rows that trained a network, residuals are too small, the more so the more parameters it has.
The rows of early stopping are unseen. Without early stopping, tenths of the rows are set apart in
turn: the network trains on the rest and predicts the tenth, until there are enough predictions;
then it trains on all rows. With many rows, a small share is enough, and stays apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from sklearn.model_selection import GroupKFold, GroupShuffleSplit, KFold, ShuffleSplit

from skuq._data._places import flat_places, rows_with_places
from skuq._data._streams import Streamed
from skuq._engine._engine import Engine
from skuq.likelihoods import Likelihood

__all__ = ["Finish", "splits_for_noise"]

_ENOUGH = 100  # rows: the standard error of a normal variance is then 14 %
_MANY = 10_000  # rows: with so many, 1 % stays apart
_MOST = 10_000  # rows to evaluate at most: a standard error of 1.4 %
_MOST_PLACES = 300_000  # the same, of rows with places, which resemble their neighbours

Split = tuple[np.ndarray, np.ndarray]


def splits_for_noise(n_rows: int, groups: Any, seed: int) -> tuple[list[Split], bool]:
    """Choose rows to set apart without early stopping, and whether they stay apart.

    Parameters
    ----------
    n_rows : int
        Number of rows.
    groups : array-like of shape (n_rows,), or None
        The group of each row; rows of one group stay together.
    seed : int
        Seed of the splits.

    Returns
    -------
    splits : list of (indices to train on, indices set apart)
        Empty if there are too few rows, or groups.
    stays : bool
        Whether the rows of the only split take no part in the training at all.
    """
    seed, rows = seed % 2**32, np.arange(n_rows)
    n_units = n_rows if groups is None else len(np.unique(groups))
    splitter: Any
    if n_units >= _MANY:
        kind = ShuffleSplit if groups is None else GroupShuffleSplit
        splitter = kind(1, test_size=0.01, random_state=seed)
        return list(splitter.split(rows, groups=groups)), True
    if n_rows < 10 or n_units < 2:
        return [], False
    kind = KFold if groups is None else GroupKFold
    splitter = kind(min(10, n_units), shuffle=True, random_state=seed)
    splits: list[Split] = []
    for split in splitter.split(rows, groups=groups):
        splits.append(split)
        if sum(len(apart) for _, apart in splits) >= _ENOUGH:
            break
    return splits, False


@dataclass
class Finish:
    """Calls `Likelihood.finish`, on the rows that `Posterior.noise` asks for.

    Attributes
    ----------
    X : ndarray or Streamed of shape (n_samples, ...)
        The training rows.
    target, weight : ndarray of shape (n_samples, ...)
        Encoded targets and weights of the rows; `weight` may be None.
    noise : {"unseen", "before", "given", "own"}
        See `Posterior`.
    apart : tuple of ndarray, or None
        Indices of training rows, and of the rows that were set apart, if any.
    done : bool
        Whether the noise was learnt before the posterior.
    places : tuple of int
        The places of a row, if there is a target for each; to a likelihood, a place is a row.
    unseen : Finish, or None
        That of rows which the user gave beside the training rows. They take the place of rows that
        were set apart.
    """

    X: Any
    target: np.ndarray
    weight: np.ndarray | None
    noise: str
    apart: Split | None = None
    done: bool = False
    places: tuple[int, ...] = ()
    unseen: Finish | None = None

    def __call__(self, likelihood: Likelihood, engine: Engine) -> None:
        """Learn from the fitted posterior that `engine` evaluates."""
        if not likelihood.wants_unseen_rows:
            self._learn_flat(
                likelihood.finish, partial(engine.map, self.X), self.target, self.weight
            )
        elif self.noise == "given":
            rows = np.arange(len(self.X)) if self.apart is None else self.apart[0]
            self._learn(likelihood.finish, [rows], lambda number: engine, given_noise=True)
        elif self.noise in ("unseen", "before") and not self.done:
            if self.unseen is not None:
                return self.unseen(likelihood, engine)
            rows = np.arange(len(self.X)) if self.apart is None else self.apart[1]
            few = rows[:: -(-len(rows) // self._most())]
            self._learn(likelihood.finish, [few], lambda number: engine)

    def scale(
        self, likelihood: Likelihood, parts: list[np.ndarray], engine_of: Callable[[int], Engine]
    ) -> None:
        """Call `Likelihood.learn_scale`: network k is evaluated by its engine on part k."""
        if self.unseen is not None:
            return self.unseen.scale(likelihood, parts, engine_of)
        if not likelihood.wants_unseen_rows:
            most = self._most()
            parts = [rows[:: -(-len(rows) * len(parts) // most)] for rows in parts]
            self._learn(likelihood.learn_scale, parts, engine_of)

    def _most(self) -> int:
        """Return how many rows to evaluate at most."""
        return max(1, _MOST_PLACES // math.prod(self.places)) if self.places else _MOST

    def before(self, likelihood: Likelihood, engine: Engine) -> bool:
        """Learn from a trained network if there are unseen rows; return whether there are any."""
        known = self.done or self.apart is not None or self.unseen is not None
        if known:
            self(likelihood, engine)
        self.done = True
        return known

    def lacks_rows(self, likelihood: Likelihood) -> bool:
        """Return whether the likelihood needs unseen rows, but none were set apart."""
        wants = likelihood.wants_unseen_rows and self.noise in ("unseen", "before")
        return wants and self.apart is None and self.unseen is None

    def find_rows(
        self,
        likelihood: Likelihood,
        groups: Any,
        seed: int,
        trained_on: Callable[[int, Split], Engine],
    ) -> Split | None:
        """Set rows apart, or let the likelihood learn from other trainings, before the posterior.

        Parameters
        ----------
        likelihood : Likelihood
            The likelihood that learns.
        groups : array-like of shape (n_samples,), or None
            The group of each row.
        seed : int
            Seed of the splits.
        trained_on : callable
            Fits a posterior to the training rows of a split, given its number and the split.

        Returns
        -------
        tuple of ndarray, or None
            The split for fitting the posterior; None means all rows.
        """
        splits, stays = splits_for_noise(len(self.X), groups, seed)
        if stays:
            self.apart = splits[0]
        elif splits:
            rows = [apart for _, apart in splits]
            self._learn(likelihood.finish, rows, lambda k: trained_on(k, splits[k]))
            self.done = True
        return self.apart

    def _learn(
        self,
        learn: Callable[..., None],
        parts: Sequence[np.ndarray],
        engine_of: Callable[[int], Engine],
        **options: Any,
    ) -> None:
        """Learn from each part of the rows by its own engine; only one exists at a time."""

        def evaluate(reduction: Any, *aligned: np.ndarray) -> np.ndarray:
            ends = np.cumsum([len(rows) for rows in parts])[:-1]
            columns = [np.split(values, ends) for values in aligned]
            return np.concatenate(
                [
                    engine_of(k).map(self._taken(rows), reduction, *(part[k] for part in columns))
                    for k, rows in enumerate(parts)
                ]
            )

        rows = np.concatenate(parts)
        weight = None if self.weight is None else self.weight[rows]
        self._learn_flat(learn, evaluate, self.target[rows], weight, **options)

    def _learn_flat(
        self,
        learn: Callable[..., None],
        evaluate: Callable[..., Any],
        target: np.ndarray,
        weight: np.ndarray | None,
        **options: Any,
    ) -> None:
        places, n_rows = self.places, len(target)

        def of_places(reduction: Any, *aligned: np.ndarray) -> Any:
            result = evaluate(reduction, *(rows_with_places(a, n_rows, places) for a in aligned))
            if isinstance(result, tuple):
                return tuple(flat_places(part, places) for part in result)
            return flat_places(result, places)

        target = flat_places(target, places)
        weight = None if weight is None else flat_places(weight, places)
        learn(of_places if places else evaluate, target, weight, **options)

    def _taken(self, rows: np.ndarray) -> Any:
        return self.X.subset(rows) if isinstance(self.X, Streamed) else self.X[rows]
