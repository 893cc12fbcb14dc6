"""The rounds of a simulated active learning: fit, score, ask; their records; their file."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.model_selection import train_test_split

from skuq._utils._files import replace_file
from skuq._utils._random import Purpose, derive_seed
from skuq.active_learning._strategies import (
    Pool,
    ask_object,
    choose,
    pool_of,
    rows_of,
    training_rows,
)

__all__ = [
    "RoundsFile",
    "area_under",
    "fitted_on",
    "first_rows_of",
    "run_rounds",
    "seeded",
    "split_rows",
]


def seeded(estimator: Any, root: int, step: int) -> Any:
    """Clone an estimator, and give a seed to each of its parts that has none."""
    estimator = clone(estimator)
    seed = derive_seed(root, Purpose.OTHER, step) % 2**31
    names = [
        name
        for name, value in estimator.get_params().items()
        if value is None and (name == "random_state" or name.endswith("__random_state"))
    ]
    return estimator.set_params(**dict.fromkeys(names, seed)) if names else estimator


def fitted_on(
    estimator: Any, before: Any, X: Any, y: np.ndarray, warm: bool, root: int, step: int
) -> Any:
    """Fit on labelled rows: a new copy, or, if `warm`, the one before unless classes are new."""
    if warm and before is not None:
        same = not is_classifier(estimator) or set(np.unique(y)) == set(before.classes_)
        if same:
            return before.fit(*training_rows(X, y))
    made = seeded(estimator, root, step)
    if warm:
        names = [n for n in made.get_params() if n.rpartition("__")[2] == "warm_start"]
        if not names:
            raise ValueError(
                f"retrain='warm' needs an estimator with warm_start, which "
                f"{type(estimator).__name__} lacks; retrain='scratch' takes any"
            )
        made.set_params(**dict.fromkeys(names, True))
    return made.fit(*training_rows(X, y))


def first_rows_of(
    initial: Any, y: np.ndarray, classifies: bool, random: np.random.RandomState
) -> np.ndarray:
    """Return the rows that are labelled at the beginning; of a classification, of two classes."""
    if np.ndim(initial) == 1:
        rows = np.asarray(initial)
        fine = rows.dtype.kind in "iu" and len(rows) and len(np.unique(rows)) == len(rows)
        if not fine or rows.min() < 0 or rows.max() >= len(y):
            raise ValueError(
                f"initial must be a number of rows, or different places from 0 to {len(y) - 1}, "
                f"got {initial!r:.80}"
            )
        return rows
    if initial >= len(y):
        raise ValueError(f"initial={initial} rows leave none to ask for: X has {len(y)}")
    order = random.permutation(len(y))
    rows = order[:initial]
    if classifies and y.ndim == 1 and len(np.unique(y[rows])) == 1:
        others = order[y[order] != y[rows[0]]]
        if not len(others) or initial < 2:
            raise ValueError("the rows to begin with must have at least 2 classes")
        rows = np.append(rows[:-1], others[0])
    return rows


def split_rows(y: np.ndarray, classifies: bool, random: Any) -> tuple[np.ndarray, np.ndarray]:
    """Set a quarter of the rows apart, of each class if there are enough rows of each."""
    stratify = None
    if classifies and y.ndim == 1:
        classes, counts = np.unique(y, return_counts=True)
        stratify = y if counts.min() >= 2 and len(classes) <= len(y) // 4 else None
    pool, test = train_test_split(
        np.arange(len(y)), test_size=0.25, random_state=random, stratify=stratify
    )
    return np.sort(pool), np.sort(test)


class RoundsFile:
    """The records of a simulation, in a folder, so that an interrupted one goes on."""

    def __init__(self, folder: Any, identity: str, root: int) -> None:
        self.path = None if folder is None else Path(folder) / "rounds.json"
        self.identity, self.root = identity, root
        self.records: list[dict[str, Any]] = []
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            found = json.loads(self.path.read_text())
            if found["identity"] != identity:
                raise ValueError(
                    f"{self.path} is of another simulation: other data, estimator or parameters. "
                    "Give another checkpoint_dir, or delete the file"
                )
            self.root, self.records = found["root"], found["records"]

    def add(self, record: dict[str, Any]) -> None:
        self.records.append(record)
        if self.path is not None:
            content = {"identity": self.identity, "root": self.root, "records": self.records}
            replace_file(self.path, lambda file: file.write(json.dumps(content).encode()))


def run_rounds(
    learner: Any,
    X: Any,
    y: np.ndarray,
    labelled: np.ndarray,
    score: Callable[[Any], float],
    file: RoundsFile,
    tell: Callable[..., Any],
) -> tuple[Any, np.ndarray]:
    """Run the rounds that are not in the file; return the last estimator and the labelled rows."""
    warm, estimator = learner.retrain == "warm", None
    for done in file.records:
        labelled = np.append(labelled, np.asarray(done["asked"], dtype=np.intp))
        tell(score=done["score"])
    ended = bool(file.records) and not file.records[-1]["asked"]  # also of a pool without rows
    for step in range(len(file.records), 0 if ended else learner.n_rounds + 1):
        start = time.perf_counter()
        estimator = fitted_on(
            learner.estimator, estimator, rows_of(X, labelled), y[labelled], warm, file.root, step
        )
        fitted = time.perf_counter()
        record = {"round": step, "n_labelled": len(labelled), "score": float(score(estimator))}
        asked = np.empty(0, dtype=np.intp)
        scored = time.perf_counter()
        left = np.setdiff1d(np.arange(len(y)), labelled)
        if step < learner.n_rounds and len(left):
            asked = _asked(learner, estimator, X, y, labelled, left, file.root, step)
        record |= {"seconds_fit": fitted - start, "seconds_query": time.perf_counter() - scored}
        file.add({**record, "asked": asked.tolist()})
        tell(score=record["score"])
        if not len(asked):
            break
        labelled = np.append(labelled, asked)
    if estimator is None:  # everything was in the file
        estimator = fitted_on(
            learner.estimator, None, rows_of(X, labelled), y[labelled], warm, file.root,
            file.records[-1]["round"],
        )  # fmt: skip
    return estimator, labelled


def _asked(
    learner: Any, estimator: Any, X: Any, y: np.ndarray, labelled: np.ndarray, left: np.ndarray,
    root: int, step: int,
) -> np.ndarray:  # fmt: skip
    random = np.random.RandomState(derive_seed(root, Purpose.POSTERIOR, step) % 2**32)
    if hasattr(learner.strategy, "query"):
        known = np.isin(np.arange(len(y)), labelled)
        return ask_object(learner.strategy, X, y, known, estimator, left, learner.batch_size)
    pool = Pool(pool_of(estimator, X, left), rows_of(X, labelled), y[labelled])
    places, _ = choose(learner.strategy, estimator, pool, learner.batch_size, random)
    return np.asarray(left[places])


def area_under(records: list[dict[str, Any]]) -> float:
    """Compute the mean height of a learning curve over the number of labels, by trapezoids."""
    n = np.array([record["n_labelled"] for record in records], dtype=float)
    scores = np.array([record["score"] for record in records])
    if len(n) == 1:
        return float(scores[0])
    return float(np.trapezoid(scores, n) / (n[-1] - n[0]))
