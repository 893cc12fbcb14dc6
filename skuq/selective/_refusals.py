"""Who is refused: counts and rates over all rows, by class and by group."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import stats
from sklearn.utils.validation import check_consistent_length, column_or_1d

from skuq._composition import see_through
from skuq._data._checks import refuse_no_labels
from skuq._utils._optional import import_optional
from skuq._utils._typing import DataFrame, MatrixLike

__all__ = [
    "Rates",
    "Refusals",
    "accept",
    "accepted_else",
    "described",
    "refusals",
    "unrefused",
]


def accept(estimator: Any, X: MatrixLike) -> np.ndarray:
    """Decide for each row whether to answer, also inside of scikit-learn's meta-estimators.

    Parameters
    ----------
    estimator : object
        A fitted `SelectiveClassifier` or `SelectiveRegressor`, or a scikit-learn Pipeline, search
        or FrozenEstimator around one.
    X : array-like of shape (n_samples, ...)
        Rows, as the outermost object takes them.

    Returns
    -------
    ndarray of bool, of shape (n_samples,)
        Whether each row gets an answer.

    Raises
    ------
    TypeError
        If there is no selective estimator inside.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skuq import TorchClassifier
    >>> from skuq.selective import SelectiveClassifier, accept
    >>> X, y = load_iris(return_X_y=True)
    >>> network = TorchClassifier(lr=0.01, max_epochs=20, random_state=0)
    >>> pipeline = make_pipeline(StandardScaler(), SelectiveClassifier(network, coverage=0.8))
    >>> accept(pipeline.fit(X, y), X).shape
    (150,)
    """
    leaf, inner, _ = see_through(estimator, X)
    if not hasattr(leaf, "accept"):
        raise TypeError(
            f"{type(leaf).__name__} cannot refuse: expected a SelectiveClassifier or a "
            "SelectiveRegressor, or scikit-learn's meta-estimators around one"
        )
    accepted: np.ndarray = leaf.accept(inner)
    return accepted


def unrefused(estimator: Any, X: Any) -> np.ndarray:
    """Predict all rows, also those that a selective estimator refuses.

    Parameters
    ----------
    estimator, X : as in `accept`
        Any fitted estimator, and rows.
    """
    leaf, inner, transformers = see_through(estimator, X)
    if transformers or not hasattr(leaf, "accept"):
        return np.asarray(estimator.predict(X))
    return np.asarray(leaf.estimator_.predict(inner))


def described(estimator: Any, X: Any, y: Any) -> tuple[str, list[list[str]]] | None:
    """Write what a selective estimator promises, and whom it refuses; None for any other.

    Parameters
    ----------
    estimator, X : as in `accept`
        Any fitted estimator, and rows.
    y : array-like of shape (n_samples,)
        True labels or targets.
    """
    leaf, inner, _ = see_through(estimator, X)
    if not hasattr(leaf, "accept"):
        return None
    text = (
        f"Accepted up to an uncertainty of {leaf.threshold_:.4g}. On the calibration rows: "
        f"coverage {leaf.coverage_:.4g}, risk {leaf.risk_:.4g}; bound {leaf.bound_:.4g}, "
        f"{'certified' if leaf.certified_ else 'not certified'}."
    )
    return text, [
        [f"{kind} {name}".strip(), str(rates.n), f"{rates.refused:.1%}", f"{rates.risk:.4g}"]
        for kind, name, rates in leaf.report(inner, y).lines()
    ]


class Rates(NamedTuple):
    """Counts and rates of some rows.

    Attributes
    ----------
    n : int
        Number of rows.
    n_accepted : int
        Number of rows that get an answer.
    refused : float
        Share of the rows that are refused.
    refused_low, refused_high : float
        Interval of that share, by Clopper and Pearson, at the confidence level.
    risk : float
        Mean loss of the accepted rows; NaN if there are none.
    risk_of_all : float
        Mean loss of all rows, if none were refused.
    """

    n: int
    n_accepted: int
    refused: float
    refused_low: float
    refused_high: float
    risk: float
    risk_of_all: float


class Refusals(NamedTuple):
    """Who is refused, and the risk of those who are not.

    Attributes
    ----------
    overall : Rates
        Counts and rates of all rows.
    by_class : dict
        The same for the rows of each true class; empty for a regressor.
    by_group : dict
        The same for the rows of each group; empty if no groups are given.
    """

    overall: Rates
    by_class: dict[Any, Rates]
    by_group: dict[Any, Rates]

    def frame(self) -> DataFrame:
        """Return all counts and rates as a pandas DataFrame, one line for each set of rows.

        Returns
        -------
        DataFrame
            Columns `kind` ("all", "class" or "group"), `name`, and those of the rates.
        """
        pandas = import_optional("pandas", "pandas", "Refusals.frame")
        return pandas.DataFrame(
            [{"kind": kind, "name": name, **rates._asdict()} for kind, name, rates in self.lines()]
        )

    def lines(self) -> list[tuple[str, Any, Rates]]:
        """List kind, name and rates of all sets of rows.

        Returns
        -------
        list of (str, object, Rates)
            The kind is "all", "class" or "group".
        """
        classes = [("class", name, rates) for name, rates in self.by_class.items()]
        groups = [("group", name, rates) for name, rates in self.by_group.items()]
        return [("all", "", self.overall), *classes, *groups]

    def __str__(self) -> str:
        lines = [f"{'':24}{'rows':>8}{'refused':>10}{'interval':>16}{'risk':>10}"]
        for kind, name, rates in self.lines():
            span = f"{rates.refused_low:.1%}–{rates.refused_high:.1%}"
            title = f"{kind} {name}".strip()[:23]
            lines.append(f"{title:24}{rates.n:8d}{rates.refused:10.1%}{span:>16}{rates.risk:10.3g}")
        return "\n".join(lines)


def refusals(
    accepted: np.ndarray, losses: np.ndarray, classes: Any, groups: Any, confidence_level: float
) -> Refusals:
    """Count acceptances and losses, from arrays only.

    Parameters
    ----------
    accepted : ndarray of bool, of shape (n_samples,)
        Whether each row gets an answer.
    losses : ndarray of shape (n_samples,)
        The loss of each row.
    classes, groups : array-like of shape (n_samples,) or None
        Labels of the rows, to be counted apart.
    confidence_level : float in (0, 1)
        Level of the intervals of shares.
    """

    def rates(rows: np.ndarray) -> Rates:
        n, n_accepted = int(rows.sum()), int((rows & accepted).sum())
        tail, refused = (1 - confidence_level) / 2, n - n_accepted
        low = stats.beta.ppf(tail, refused, n_accepted + 1) if refused else 0.0
        high = stats.beta.ppf(1 - tail, refused + 1, n_accepted) if n_accepted else 1.0
        risk = losses[rows & accepted].mean() if n_accepted else np.nan
        mean = losses[rows].mean() if n else np.nan
        share = refused / n if n else np.nan
        return Rates(n, n_accepted, share, float(low), float(high), float(risk), float(mean))

    def by(name: str, labels: Any) -> dict[Any, Rates]:
        if labels is None:
            return {}
        refuse_no_labels(name, labels)
        values = column_or_1d(labels)
        check_consistent_length(values, accepted)
        if (values != values).any():
            raise ValueError(f"{name} contains NaN; leave these rows out")
        return {label: rates(values == label) for label in np.unique(values).tolist()}

    whole = rates(np.ones(len(accepted), dtype=bool))
    return Refusals(whole, by("y", classes), by("groups", groups))


def accepted_else(accepted: np.ndarray, answers: np.ndarray, reject_label: Any) -> np.ndarray:
    """Put `reject_label` in place of the answers that are refused, in a type that holds both."""
    label = np.asarray(reject_label)
    if answers.dtype.kind == "b" or (label.dtype.kind in "US") != (answers.dtype.kind in "US"):
        answers, label = answers.astype(object), label.astype(object)
    mask = accepted.reshape(-1, *[1] * (answers.ndim - 1))
    return np.where(mask, answers, label)
