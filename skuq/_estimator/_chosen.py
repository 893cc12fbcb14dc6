"""What is chosen where parameters of training are "auto": its length, and the learning rate.

Steps of the optimizer count, not epochs: a small table needs many epochs, because each has few
steps. `docs/defaults.md` has the measurements.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from skuq._estimator._built import has_default_network

__all__ = ["Chosen"]

_STEPS = 6000  # of the optimizer, at most, if that takes between the least and most epochs
_LEAST_EPOCHS = 100  # also without early stopping, where more would fit noise
_MOST_EPOCHS = 1000
_WAITED_STEPS = 500  # without improvement, if that takes at least this many epochs:
_WAITED_EPOCHS = 10
_LR = 3e-3  # of the default network, whose size is known; 1e-3 is common for others
_LR_OF_OTHERS = 1e-3
_FEWEST_ROWS = 20  # or groups: a validation loss of fewer rows than two says nothing


class Chosen(NamedTuple):
    """The parameters of a training, with all choices made."""

    max_epochs: int
    patience: int | None  # epochs without improvement before early stopping; None: it is off
    lr: float

    @classmethod
    def of(
        cls, estimator: Any, target: np.ndarray, groups: Any = None, given: bool = False
    ) -> Chosen:
        """Choose for an estimator.

        Parameters
        ----------
        estimator : TorchEstimator
            The estimator, with its parameters.
        target : ndarray of shape (n_rows, ...)
            The targets of all rows, those of early stopping included.
        groups : array-like of shape (n_rows,), default=None
            The group of each row.
        given : bool, default=False
            Whether the user gave validation rows beside these.
        """
        epochs, stops = estimator.max_epochs, estimator.early_stopping
        if stops == "auto" and given:
            stops = epochs != 0 and estimator.callbacks != "disable"
        elif stops == "auto":
            stops = epochs == "auto" and _may_stop_early(estimator, target, groups)
        apart = estimator.validation_fraction if stops and not given else 0
        n_train = len(target) * (1 - apart)
        size = estimator._with_prefix("iterator_train").get("batch_size") or estimator.batch_size
        n_steps = max(1.0, np.ceil(n_train / size))  # of an epoch
        if epochs == "auto":
            epochs = _LEAST_EPOCHS
            if stops:
                epochs = int(np.clip(np.ceil(_STEPS / n_steps), _LEAST_EPOCHS, _MOST_EPOCHS))
        waited = estimator.n_iter_no_change
        if waited == "auto":
            waited = max(_WAITED_EPOCHS, int(np.ceil(_WAITED_STEPS / n_steps)))
        lr = estimator.lr
        if lr == "auto":
            lr = _LR if has_default_network(estimator) else _LR_OF_OTHERS
        return cls(int(epochs), int(waited) if stops else None, lr)


def _may_stop_early(estimator: Any, target: np.ndarray, groups: Any) -> bool:
    """Return whether early stopping may set rows apart without being asked for."""
    n_units = len(target) if groups is None else len(np.unique(groups))
    may = n_units >= _FEWEST_ROWS and estimator.callbacks != "disable"
    if may and estimator._task == "classification" and target.ndim == 1:
        may = len(np.unique(target)) < len(target)  # a class of one row has none to spare
    return may
