"""The learner: rounds of fitting, asking and being given labels, simulated or with a person."""

from __future__ import annotations

from numbers import Integral
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, is_classifier
from sklearn.metrics import check_scoring
from sklearn.utils.validation import check_is_fitted

from skuq._data._inputs import as_inputs
from skuq._utils._optional import import_optional
from skuq._utils._progress import Bars, Task
from skuq._utils._random import Purpose, derive_seed, root_seed
from skuq._utils._sklearn_compat import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)
from skuq._utils._typing import ArrayLike, DataFrame, MatrixLike, RandomState, StrPath
from skuq.active_learning._as_estimator import AsEstimator
from skuq.active_learning._asked import count_rows
from skuq.active_learning._identity import identity_of
from skuq.active_learning._labels import is_labelled, known_labels, label_array, with_labels
from skuq.active_learning._rounds import (
    RoundsFile,
    area_under,
    first_rows_of,
    fitted_on,
    run_rounds,
    split_rows,
)
from skuq.active_learning._strategies import QueryStrategy, check_strategy, rows_of

__all__ = ["ActiveLearner"]


class ActiveLearner(AsEstimator, MetaEstimatorMixin, BaseEstimator):
    """Ask for the labels that help an estimator most.

    ``simulate(X, y)`` plays the game on labelled data: it begins with a few random labels, and in
    each round fits, scores on test rows, and asks for more. ``fit(X, y)``, ``ask()`` and
    ``teach(rows, labels)`` play it with a person.

    Parameters
    ----------
    estimator : object
        A classifier or regressor; it is cloned.
    strategy : str, callable or object with a method `query`, default="auto"
        How to choose rows. A name: "random", "entropy", "margin", "least_confidence",
        "variation_ratio", "bald", "mean_std", "variance", "epistemic" (variance), "egl"
        (`expected_gradient_length`), "model_change", "egl_plus_plus", "badge", "batch_bald",
        "core_set" or "kmeans". A function of (estimator, pool) that returns scores, higher is
        better. Or an object like `QueryStrategy`. "auto" is "margin" for classifiers and
        "core_set" for regressors; `docs/active_learning.md` says why, and where they lose.
    batch_size : int, default=10
        How many labels a round asks for.
    n_rounds : int, default=10
        How often `simulate` asks.
    initial : int or array-like of int, default=20
        How many random rows `simulate` begins with, or their places.
    retrain : {"scratch", "warm"}, default="scratch"
        Whether each round fits a new copy, or goes on from the weights of the last one, by
        ``warm_start=True``. New classes need a new copy in any case.
    scoring : str or callable, default=None
        How `simulate` scores on test rows: a scorer of scikit-learn or skuq, or its name; None is
        the `score` of the estimator.
    missing_label : scalar, default=None
        What stands in y for a label that is missing, such as −1 where that is no label. None takes
        NaN, None and pandas' NA.
    checkpoint_dir : path, default=None
        A folder in which `simulate` notes each round, so that the same call goes on after an
        interruption. It needs ``retrain="scratch"``.
    verbose : int, default=0
        1 shows a progress bar of the rounds, if tqdm is installed.
    random_state : int, RandomState instance or None, default=None
        Seed of the first rows, of random queries, and of estimators without a seed of their own.

    Attributes
    ----------
    estimator_ : object
        The estimator, fitted on all labelled rows.
    y_ : ndarray of shape (n_samples, ...)
        All labels known so far.
    labelled_ : ndarray of bool of shape (n_samples,)
        Which rows have a label.
    rounds_ : list of dict
        The rounds of `simulate`: "round", "n_labelled", "score", "seconds_fit", "seconds_query",
        and "asked", the places of the rows that were then asked for.
    area_under_curve_ : float
        Mean score over the number of labels, by trapezoids, after `simulate`.

    See Also
    --------
    compare_queries : Several strategies on the same splits.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skuq.active_learning import ActiveLearner
    >>> X, y = load_iris(return_X_y=True)
    >>> learner = ActiveLearner(
    ...     LogisticRegression(max_iter=500), batch_size=5, n_rounds=4, initial=5, random_state=0
    ... ).simulate(X, y)
    >>> [r["n_labelled"] for r in learner.rounds_]
    [5, 10, 15, 20, 25]
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "n_rounds": [Interval(Integral, 0, None, closed="left")],
        "initial": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "retrain": [StrOptions({"scratch", "warm"})],
        "scoring": [str, callable, None],
        "checkpoint_dir": [str, PathLike, None],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimator: Any,
        strategy: Any = "auto",
        *,
        batch_size: int = 10,
        n_rounds: int = 10,
        initial: int | ArrayLike = 20,
        retrain: str = "scratch",
        scoring: Any = None,
        missing_label: Any = None,
        checkpoint_dir: StrPath | None = None,
        verbose: int = 0,
        random_state: RandomState = None,
    ) -> None:
        self.estimator = estimator
        self.strategy = strategy
        self.batch_size = batch_size
        self.n_rounds = n_rounds
        self.initial = initial
        self.retrain = retrain
        self.scoring = scoring
        self.missing_label = missing_label
        self.checkpoint_dir = checkpoint_dir
        self.verbose = verbose
        self.random_state = random_state

    def _check_parameters(self) -> None:
        parameters = self.get_params(deep=False)
        validate_parameter_constraints(self._parameter_constraints, parameters, type(self).__name__)
        check_strategy(self.strategy)

    # -- simulated -------------------------------------------------------------------------------

    def simulate(
        self,
        X: MatrixLike,
        y: ArrayLike,
        X_test: MatrixLike | None = None,
        y_test: ArrayLike | None = None,
    ) -> Self:
        """Play all rounds on labelled data, and record the learning curve.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            All rows.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            All labels; a query sees only those that it has asked for.
        X_test : array-like of shape (n_test, ...), default=None
            Rows to score on; None sets a quarter of the rows apart.
        y_test : array-like of shape (n_test, ...), default=None
            Their labels.

        Returns
        -------
        self : ActiveLearner
            The learner itself, with its curve. `labelled_` and the places in `rounds_` are of X,
            also if test rows were set apart.
        """
        self._check_parameters()
        X, target, n_rows = as_inputs(X), label_array(y), count_rows(X)
        if len(target) != n_rows:
            raise ValueError(f"X has {n_rows} rows and y {len(target)}; expected equal numbers")
        if not is_labelled(target, self.missing_label).all():
            raise ValueError(
                "simulate needs all labels, and some are missing; fit, ask and teach are for y "
                "with missing labels"
            )
        target = known_labels(target, np.ones(n_rows, dtype=bool))
        if (X_test is None) != (y_test is None):
            raise ValueError("expected both X_test and y_test, or neither")
        if self.checkpoint_dir is not None and self.retrain == "warm":
            raise ValueError(
                "checkpoint_dir needs retrain='scratch': weights of earlier rounds are not kept"
            )
        file = RoundsFile(
            self.checkpoint_dir,
            identity_of(self, X, target, X_test, y_test) if self.checkpoint_dir is not None else "",
            root_seed(self.random_state),
        )
        random = np.random.RandomState(derive_seed(file.root, Purpose.SPLIT) % 2**32)
        pool, test = np.arange(n_rows), np.empty(0, dtype=np.intp)
        if X_test is None:
            pool, test = split_rows(target, is_classifier(self.estimator), random)
            X_test, y_test = rows_of(X, test), target[test]
        self._play(X, target, pool, X_test, np.asarray(y_test), file, random)
        return self

    def _play(
        self, X: Any, y: np.ndarray, pool: np.ndarray, X_test: Any, y_test: np.ndarray,
        file: RoundsFile, random: Any,
    ) -> None:  # fmt: skip
        inside = X if len(pool) == len(y) else rows_of(X, pool)
        classifies = is_classifier(self.estimator)
        initial = self.initial
        if np.ndim(initial) == 1 and len(pool) < len(y):
            places = np.searchsorted(pool, np.asarray(initial))
            if not np.array_equal(pool[np.minimum(places, len(pool) - 1)], np.asarray(initial)):
                raise ValueError(
                    "initial has rows that would be set apart for testing: give X_test and y_test"
                )
            initial = places
        first = first_rows_of(initial, y[pool], classifies, random)

        def score(estimator: Any) -> float:
            return float(check_scoring(estimator, self.scoring)(estimator, X_test, y_test))

        with Task("rounds", [Bars()] if self.verbose else []) as task:
            task.begin(self.n_rounds + 1, "round")
            estimator, labelled = run_rounds(
                self, inside, y[pool], first, score, file,
                lambda **values: task.subtask("round").begin().end(**values),
            )  # fmt: skip
            task.end()
        self.estimator_ = estimator
        self.labelled_ = np.isin(np.arange(len(y)), pool[labelled])
        self.y_ = y
        self.rounds_ = [
            {**record, "asked": pool[np.asarray(record["asked"], dtype=np.intp)].tolist()}
            for record in file.records
        ]
        self.first_ = pool[first]
        self.area_under_curve_ = area_under(self.rounds_)

    @property
    def curve_(self) -> DataFrame:
        """The rounds as a pandas DataFrame, without the places that were asked for."""
        if not hasattr(self, "rounds_"):
            raise AttributeError(f"{type(self).__name__} has no curve_ before simulate")
        pandas = import_optional("pandas", "pandas", "ActiveLearner.curve_")
        return pandas.DataFrame(self.rounds_).drop(columns="asked")

    # -- with a person ---------------------------------------------------------------------------

    def fit(self, X: MatrixLike, y: ArrayLike) -> Self:
        """Fit the estimator on the rows that have a label, and keep the others to ask for.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or map-style torch Dataset of rows
            All rows, labelled or not.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Labels, with `missing_label` where there is none.

        Returns
        -------
        self : ActiveLearner
            The learner itself.

        Raises
        ------
        ValueError
            If no row has a label.
        """
        self._check_parameters()
        if y is None:
            raise ValueError("ActiveLearner requires y to be passed, but the target y is None")
        X, labels, n_rows = as_inputs(X), label_array(y), count_rows(X)
        if len(labels) != n_rows:
            raise ValueError(f"X has {n_rows} rows and y {len(labels)}; expected equal numbers")
        labelled = is_labelled(labels, self.missing_label)
        if not labelled.any():
            raise ValueError(
                "no row of y has a label: label a few random rows first, or say what stands for a "
                f"missing label, by missing_label= (now {self.missing_label!r})"
            )
        for name in ("rounds_", "area_under_curve_", "first_"):
            self.__dict__.pop(name, None)
        self._X, self._root = X, root_seed(self.random_state)
        self._learn(labels, labelled, None, 0)
        return self

    def _learn(self, y: np.ndarray, labelled: np.ndarray, before: Any, step: int) -> None:
        """Fit on labels, and keep them if that succeeds."""
        rows = rows_of(self._X, np.flatnonzero(labelled))
        known, warm = known_labels(y, labelled), self.retrain == "warm"
        self.estimator_ = fitted_on(self.estimator, before, rows, known, warm, self._root, step)
        self.y_, self.labelled_, self._step = y, labelled, step

    def ask(self, n: int | None = None) -> np.ndarray:
        """Choose the rows to label next.

        Parameters
        ----------
        n : int, default=None
            How many; None is `batch_size`. Fewer that are left are all chosen.

        Returns
        -------
        ndarray of int of shape (n,)
            Places in X, the best first; empty if all rows have a label.
        """
        self._check_asked("ask")
        if self.labelled_.all():
            return np.empty(0, dtype=np.intp)
        seed = derive_seed(self._root, Purpose.POSTERIOR, self._step) % 2**32
        strategy = QueryStrategy(self.strategy, missing_label=self.missing_label, random_state=seed)
        chosen: np.ndarray = strategy.query(
            self._X, self.y_, self.estimator_, batch_size=self.batch_size if n is None else n
        )
        return chosen

    def teach(self, indices: ArrayLike, y: ArrayLike) -> Self:
        """Take labels of rows, and fit again.

        Parameters
        ----------
        indices : array-like of int of shape (n,)
            Places in X, such as `ask` has returned.
        y : array-like of shape (n,) or (n, n_targets)
            Their labels. Rows whose label is still missing stay unlabelled.

        Returns
        -------
        self : ActiveLearner
            The learner itself.

        Raises
        ------
        ValueError
            If a row has a label already, or indices and labels do not match. After an error, the
            labels are as before.
        """
        self._check_asked("teach")
        places, labels = np.atleast_1d(np.asarray(indices)), np.atleast_1d(label_array(y))
        if places.dtype.kind not in "iu" or len(places) != len(labels) or not len(places):
            raise ValueError(
                f"expected places in X and as many labels, got {places.shape} and {labels.shape}"
            )
        if places.min() < 0 or places.max() >= len(self.y_):
            raise ValueError(f"indices must be from 0 to {len(self.y_) - 1}, got {places.tolist()}")
        if len(np.unique(places)) < len(places) or self.labelled_[places].any():
            raise ValueError("indices must be different rows without a label; some have one")
        given = is_labelled(labels, self.missing_label)
        if not given.any():
            raise ValueError("none of the labels is given; expected at least one")
        y_all = with_labels(self.y_, places[given], labels[given])
        labelled = is_labelled(y_all, self.missing_label)
        self._learn(y_all, labelled, self.estimator_, self._step + 1)
        return self

    def _check_asked(self, method: str) -> None:
        check_is_fitted(self, "estimator_")
        if not hasattr(self, "_X"):
            raise ValueError(f"{method} needs fit(X, y) first; simulate knows all labels")
