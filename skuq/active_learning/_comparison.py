"""Several strategies on the same splits: learning curves, tests, a table and a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from scipy import stats
from sklearn.base import clone
from sklearn.utils import check_random_state

from skuq._utils._files import replace_file
from skuq._utils._optional import import_optional
from skuq._utils._typing import ArrayLike, DataFrame, MatrixLike, RandomState, StrPath
from skuq.active_learning._display import LearningCurvesDisplay
from skuq.active_learning._learner import ActiveLearner

__all__ = ["QueryComparison", "compare_queries"]


class QueryComparison:
    """The result of `compare_queries`.

    Parameters
    ----------
    n_labelled : array-like of int of shape (n_rounds,)
        How many rows had labels in each round.
    scores : dict of str to array-like of shape (n_seeds, n_rounds)
        The scores of each strategy; seed i has the same splits for all.
    reference : str
        The strategy that the others are tested against.

    Attributes
    ----------
    areas : dict of str to ndarray of shape (n_seeds,)
        Mean score over the number of labels of each strategy.
    """

    def __init__(
        self, n_labelled: ArrayLike, scores: Mapping[str, ArrayLike], reference: str = "random"
    ) -> None:
        self.n_labelled = np.asarray(n_labelled)
        self.scores = {name: np.asarray(values, dtype=float) for name, values in scores.items()}
        self.reference = reference
        shapes = {values.shape for values in self.scores.values()}
        if len(shapes) != 1 or len(next(iter(shapes))) != 2:
            raise ValueError(f"each strategy needs scores of the same shape, got {shapes}")
        if next(iter(shapes))[1] != len(self.n_labelled):
            raise ValueError(f"expected {len(self.n_labelled)} rounds of scores, got {shapes}")
        if reference not in self.scores:
            raise ValueError(
                f"reference={reference!r} is none of the strategies, {', '.join(self.scores)}"
            )
        self.areas = {name: self._area(values) for name, values in self.scores.items()}

    def _area(self, scores: np.ndarray) -> np.ndarray:
        n = self.n_labelled
        if len(n) == 1:
            return scores[:, 0]
        return np.asarray(np.trapezoid(scores, n, axis=1) / (n[-1] - n[0]))

    def frame(self) -> DataFrame:
        """Return all scores as a pandas DataFrame.

        Returns
        -------
        DataFrame
            Columns "strategy", "seed", "n_labelled" and "score".
        """
        pandas = import_optional("pandas", "pandas", "QueryComparison.frame")
        return pandas.DataFrame(
            [
                {"strategy": name, "seed": seed, "n_labelled": int(n), "score": score}
                for name, values in self.scores.items()
                for seed, curve in enumerate(values)
                for n, score in zip(self.n_labelled, curve)
            ]
        )

    def test(
        self, values: Mapping[str, np.ndarray] | None = None, alternative: str = "greater"
    ) -> dict[str, float]:
        """Compute one-tailed paired t-tests of each strategy against the reference.

        Parameters
        ----------
        values : dict of str to ndarray of shape (n_seeds,), default=None
            What to compare, None compares `areas`.
        alternative : {"greater", "less"}, default="greater"
            Whether the strategy is better, or worse, than the reference.

        Returns
        -------
        dict of str to float
            The p value of each strategy but the reference; NaN with one seed, 1 if all differences
            are zero.
        """
        if alternative not in ("greater", "less"):
            raise ValueError(f"alternative must be 'greater' or 'less', got {alternative!r}")
        chosen = self.areas if values is None else values
        base = chosen[self.reference]
        return {
            name: _paired(found - base, alternative)
            for name, found in chosen.items()
            if name != self.reference
        }

    def summary(self, level: float = 0.1) -> DataFrame:
        """Compare the areas under the learning curves, as a pandas DataFrame.

        Parameters
        ----------
        level : float in (0, 1), default=0.1
            The level of the one-tailed tests.

        Returns
        -------
        DataFrame
            One line for each strategy: "area" (the mean over seeds), "std" (over seeds),
            "difference" to the reference and its "standard_error", the p values "p_better" and
            "p_worse", and both by Holm [1]_ for the number of strategies ("p_better_holm",
            "p_worse_holm"), and "verdict" by the latter: "better", "worse" or "".

        References
        ----------
        .. [1] S. Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian
           Journal of Statistics 6, 1979.
        """
        pandas = import_optional("pandas", "pandas", "QueryComparison.summary")
        better, worse = self.test(), self.test(alternative="less")
        holm_better, holm_worse = holm(better), holm(worse)
        lines = []
        for name, area in self.areas.items():
            apart = area - self.areas[self.reference]
            nan = float("nan")
            up, down = holm_better.get(name, nan), holm_worse.get(name, nan)
            lines.append(
                {
                    "strategy": name,
                    "area": area.mean(),
                    "std": _std(area),
                    "difference": apart.mean(),
                    "standard_error": _std(apart) / np.sqrt(len(apart)),
                    "p_better": better.get(name, nan),
                    "p_worse": worse.get(name, nan),
                    "p_better_holm": up,
                    "p_worse_holm": down,
                    "verdict": "better" if up < level else "worse" if down < level else "",
                }
            )
        return pandas.DataFrame(lines).set_index("strategy")

    def table(self, n_labelled: Sequence[int] | None = None) -> DataFrame:
        """Lay out scores like published tables: mean, standard deviation and p for each budget.

        Parameters
        ----------
        n_labelled : sequence of int, default=None
            The numbers of labels to show; None shows all rounds.

        Returns
        -------
        DataFrame
            One line for each strategy; the columns are pairs of a number of labels and "mean",
            "std" (over seeds) or "p" (one-tailed, that the strategy is better than the reference).
        """
        pandas = import_optional("pandas", "pandas", "QueryComparison.table")
        wanted = self.n_labelled if n_labelled is None else np.atleast_1d(n_labelled)
        if not np.isin(wanted, self.n_labelled).all():
            raise ValueError(f"n_labelled must be some of {self.n_labelled.tolist()}, got {wanted}")
        columns: dict[tuple[int, str], list[float]] = {}
        for n in wanted:
            place = int(np.flatnonzero(self.n_labelled == n)[0])
            some = {name: values[:, place] for name, values in self.scores.items()}
            p = self.test(some)
            columns[int(n), "mean"] = [values.mean() for values in some.values()]
            columns[int(n), "std"] = [_std(values) for values in some.values()]
            columns[int(n), "p"] = [p.get(name, float("nan")) for name in some]
        frame = pandas.DataFrame(columns, index=list(self.scores))
        frame.columns.names = ["n_labelled", ""]
        return frame

    def plot(
        self, strategies: Sequence[str] | None = None, *, ax: Any = None, score_name: str = "score"
    ) -> LearningCurvesDisplay:
        """Draw mean learning curves with bands of one standard error over the seeds.

        Parameters
        ----------
        strategies : sequence of str, default=None
            Which to draw; None draws all.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        score_name : str, default="score"
            What the vertical axis is called.

        Returns
        -------
        LearningCurvesDisplay
            The picture, with `ax_` and `figure_`.
        """
        names = list(self.scores) if strategies is None else list(strategies)
        unknown = [name for name in names if name not in self.scores]
        if unknown:
            raise ValueError(f"there is no strategy {unknown[0]!r}; there are {list(self.scores)}")
        display = LearningCurvesDisplay(
            self.n_labelled, {name: self.scores[name] for name in names}, score_name=score_name
        )
        return display.plot(ax=ax)

    def __repr__(self) -> str:
        n_seeds = len(self.areas[self.reference])
        return (
            f"QueryComparison({len(self.scores)} strategies, {n_seeds} seeds, "
            f"{self.n_labelled[0]} to {self.n_labelled[-1]} labels)"
        )


def _std(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def _paired(differences: np.ndarray, alternative: str) -> float:
    if len(differences) < 2:
        return float("nan")
    if np.ptp(differences) <= 1e-12 * max(1.0, np.abs(differences).max()):  # no variance
        mean = differences.mean() if alternative == "greater" else -differences.mean()
        return 0.0 if mean > 1e-12 else 1.0
    return float(stats.ttest_1samp(differences, 0.0, alternative=alternative).pvalue)


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Correct p values for their number, by Holm."""
    order = sorted(p, key=lambda name: p[name])
    found, largest = {}, 0.0
    for k, name in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - k) * p[name]))
        found[name] = largest if p[name] == p[name] else float("nan")
    return found


def compare_queries(
    estimator: Any,
    strategies: Sequence[str] | Mapping[str, Any],
    X: MatrixLike,
    y: ArrayLike,
    X_test: MatrixLike | None = None,
    y_test: ArrayLike | None = None,
    *,
    reference: str = "random",
    n_seeds: int = 5,
    batch_size: int = 10,
    n_rounds: int = 10,
    initial: int = 20,
    retrain: str = "scratch",
    scoring: Any = None,
    n_jobs: int | None = None,
    checkpoint_dir: StrPath | None = None,
    random_state: RandomState = None,
) -> QueryComparison:
    """Compare strategies by simulated active learning, on the same splits and first rows.

    Parameters
    ----------
    estimator : object
        A classifier or regressor; it is cloned.
    strategies : sequence of str or functions, or dict of str to strategy
        Strategies as in `ActiveLearner`; a dict gives them names. The reference is added if it is
        missing.
    X : array-like of shape (n_samples, ...)
        All rows.
    y : array-like of shape (n_samples,) or (n_samples, n_targets)
        All labels.
    X_test : array-like of shape (n_test, ...), default=None
        Rows to score on; None sets a quarter of the rows apart, another one for each seed.
    y_test : array-like of shape (n_test, ...), default=None
        Their labels.
    reference : str, default="random"
        The strategy that the others are tested against.
    n_seeds : int, default=5
        How many times each strategy is played, with other splits, first rows and networks.
    batch_size, n_rounds, initial, retrain, scoring : as in `ActiveLearner`
        The size and number of rounds, how many random rows come first, how to fit and to score.
    n_jobs : int, default=None
        How many simulations run at once, as in joblib.
    checkpoint_dir : path, default=None
        A folder that keeps all rounds, so that the same call goes on after an interruption.
    random_state : int, RandomState instance or None, default=None
        Seed of the seeds.

    Returns
    -------
    QueryComparison
        Scores, tests, a table and a picture.

    Raises
    ------
    ValueError
        If there is no strategy, or strategies ended with different numbers of labels.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skuq.active_learning import compare_queries
    >>> X, y = load_iris(return_X_y=True)
    >>> found = compare_queries(
    ...     LogisticRegression(max_iter=500), ["margin"], X, y,
    ...     n_seeds=2, n_rounds=3, batch_size=5, initial=5, random_state=0,
    ... )
    >>> found
    QueryComparison(2 strategies, 2 seeds, 5 to 20 labels)
    """
    named = _named(strategies)
    if isinstance(strategies, str) or not named:
        raise ValueError(f"strategies must be a list of names or a dict, got {strategies!r}")
    named.setdefault(reference, reference)
    seeds = _seeds(n_seeds, random_state, checkpoint_dir)
    jobs = [
        delayed(_curve)(
            ActiveLearner(
                clone(estimator), strategy, batch_size=batch_size, n_rounds=n_rounds,
                initial=initial, retrain=retrain, scoring=scoring, random_state=int(seed),
                checkpoint_dir=None if checkpoint_dir is None
                else Path(checkpoint_dir) / f"{name}_{k}",
            ),
            X, y, X_test, y_test,
        )
        for k, seed in enumerate(seeds) for name, strategy in named.items()
    ]  # fmt: skip
    curves = Parallel(n_jobs=n_jobs)(jobs)
    numbers = {tuple(n for n, _ in curve) for curve in curves}
    if len(numbers) > 1:
        raise ValueError("strategies ended with different numbers of labels")
    scores = {
        name: [[s for _, s in curve] for curve in curves[k :: len(named)]]
        for k, name in enumerate(named)
    }
    return QueryComparison(numbers.pop(), scores, reference)


def _named(strategies: Any) -> dict[str, Any]:
    """Name strategies: functions of a list by their names."""
    if isinstance(strategies, Mapping):
        return dict(strategies)
    return {s if isinstance(s, str) else getattr(s, "__name__", repr(s)): s for s in strategies}


def _seeds(n: Any, random_state: Any, folder: Any) -> list[int]:
    """Draw a seed for each repetition; a folder keeps those that the same call would not repeat."""
    if isinstance(n, bool) or not isinstance(n, Integral) or n < 1:
        raise ValueError(f"n_seeds must be an integer of at least 1, got {n!r}")
    seeds: list[int] = check_random_state(random_state).randint(2**31 - 1, size=n).tolist()
    if folder is None or isinstance(random_state, Integral):
        return seeds
    path = Path(folder) / "seeds.json"
    if path.exists():
        kept: list[int] = json.loads(path.read_text())
        seeds = kept + seeds[len(kept) :]
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, lambda file: file.write(json.dumps(seeds).encode()))
    return seeds[:n]


def _curve(learner: ActiveLearner, X: Any, y: Any, X_test: Any, y_test: Any) -> list[Any]:
    rounds = learner.simulate(X, y, X_test, y_test).rounds_
    return [(r["n_labelled"], r["score"]) for r in rounds]
