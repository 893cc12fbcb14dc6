"""Which classes of other packages hold a stack of draws, and how to get it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from skuq._utils._stock import is_stock

__all__ = ["Registered", "find_draws", "register_built_in", "register_draws"]

DrawsOf = Callable[[Any, Any], Any]


class Registered(NamedTuple):
    """A row of the table.

    Attributes
    ----------
    function : callable
        Makes draws of a fitted estimator and rows.
    built_in : bool
        Whether the row is skuq's own. Such a row is not for subclasses that predict in another way.
    """

    function: DrawsOf
    built_in: bool


_TABLE: dict[type | str, Registered] = {}  # by class, or by the name "package.Class"


def register_draws(cls: type | str, function: Callable[[Any, Any], Any]) -> None:
    """Teach skuq that the estimators of a class hold a stack of draws.

    From then on, `skuq.predict_uncertainty`, `skuq.predict_draws` and `skuq.predict_interval`, the
    scorers, the displays, `skuq.report`, calibrators and selective estimators take such estimators,
    also inside of Pipelines and searches. skuq's own rows of the same table serve scikit-learn's
    ensembles: `docs/ensembles.md`.

    Parameters
    ----------
    cls : type or str
        The class; subclasses count, too. A name such as "ngboost.NGBRegressor" (the package, a dot,
        the name of the class) saves the import of the package. A second call with the same class
        replaces the first.
    function : callable
        ``function(estimator, X)`` of a fitted estimator and rows of X, as it takes them. It
        returns

        * for a classifier, an array (n_draws, n_samples, n_classes) of probabilities, with classes
          in the order of the estimator's ``classes_``. Their mean over the draws is the
          prediction;
        * for a regressor, a pair of arrays (mean, std), each of shape (n_draws, n_samples) or
          (n_draws, n_samples, n_targets), in the units of y: every draw is a normal distribution;
        * for a regressor whose draws know no noise, only the array of means;
        * or a `torch.distributions.Distribution` in float64, of batch shape (n_draws, n_samples,
          n_targets), with `mean`, `variance`, `cdf`, `icdf` and `log_prob`.

        Equal weights: a draw that counts twice is there twice. Many rows come in blocks.

    Raises
    ------
    TypeError
        If `cls` is neither a class nor a name, or `function` cannot be called.

    Notes
    -----
    A table belongs to a process. Where joblib starts new processes, put the call into a module that
    they import.

    Examples
    --------
    >>> import numpy as np
    >>> import skuq
    >>> from sklearn.base import BaseEstimator, RegressorMixin
    >>> class Committee(RegressorMixin, BaseEstimator):
    ...     def fit(self, X, y):
    ...         self.means_ = np.array([y.min(), y.max()])
    ...         return self
    ...     def predict(self, X):
    ...         return np.full(len(X), self.means_.mean())
    >>> skuq.register_draws(Committee, lambda model, X: np.tile(model.means_[:, None], len(X)))
    >>> X = np.zeros((3, 1))
    >>> committee = Committee().fit(X, np.array([0.0, 1.0, 2.0]))
    >>> skuq.predict_uncertainty(committee, X, kind="epistemic").tolist()
    [1.0, 1.0, 1.0]
    """
    _put(cls, function, built_in=False)


def register_built_in(name: str, function: DrawsOf) -> None:
    """Add a row of skuq's own."""
    _put(name, function, built_in=True)


def _put(cls: type | str, function: DrawsOf, built_in: bool) -> None:
    parts = cls.split(".") if isinstance(cls, str) else ()
    if not isinstance(cls, type) and (len(parts) != 2 or not all(map(str.isidentifier, parts))):
        raise TypeError(
            f"cls must be a class, or a name such as 'ngboost.NGBRegressor', got {cls!r}"
        )
    if not callable(function) or isinstance(function, type):
        raise TypeError(
            f"function must be a function of a fitted estimator and X, got {function!r}"
        )
    _TABLE[cls] = Registered(function, built_in)


def find_draws(estimator: Any) -> Registered | None:
    """Find the row of the estimator's class, or of the nearest of the classes above it."""
    for cls in type(estimator).__mro__:
        name = f"{cls.__module__.partition('.')[0]}.{cls.__name__}"
        for row in (_TABLE.get(cls), _TABLE.get(name)):
            if row is not None and (not row.built_in or is_stock(estimator, cls)):
                return row
    return None
