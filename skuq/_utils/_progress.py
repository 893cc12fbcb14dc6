"""Progress of `fit`: tasks and their subtasks, which notify watchers.

``fit`` is a task, its networks are subtasks, and the epochs of a network are subtasks of that.
Watchers are progress bars of tqdm, with ``verbose=1``, and callbacks of scikit-learn. Without
watchers, notifications cost nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, ClassVar

from joblib import Parallel
from joblib.parallel import get_active_backend

__all__ = ["Task", "bar", "everywhere", "parallel", "watchers"]


def bar(items: Iterable[Any], verbose: int, **options: Any) -> Any:
    """Put a progress bar around `items`, if ``verbose=1`` and tqdm is installed."""
    if verbose != 1:
        return items
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return items
    return tqdm(items, **options)


class Task:
    """A task of ``fit`` and its subtasks.

    Call `begin` and `end` once each. If an error leaves its ``with`` block before the end, the
    watchers close their bars.
    """

    def __init__(self, name: str, watchers: Sequence[Any] = ()) -> None:
        self.name = name
        self.watchers = list(watchers)

    def begin(self, size: int = 0, of: str = "") -> Task:
        """Begin a task of at most `size` subtasks, whose unit is called `of`."""
        for watcher in self.watchers:
            watcher.begin(self.name, size, of)
        return self

    def subtask(self, name: str) -> Task:
        """Make a subtask, one of those that `begin` announced."""
        return Task(name, [watcher.subtask() for watcher in self.watchers])

    def aside(self, name: str) -> Task:
        """Make a subtask that `begin` did not announce; only bars show it."""
        return Task(name, [w.subtask() for w in self.watchers if w.takes_more])

    def end(self, fitted: Callable[[], dict[str, Any]] | None = None, **values: float) -> bool:
        """End the task; return whether a watcher asks to stop.

        Parameters
        ----------
        fitted : callable, default=None
            Makes the attributes of the estimator as if ``fit`` stopped here.
        **values : float
            Numbers to show.
        """
        return max([watcher.end(fitted, values) for watcher in self.watchers], default=False)

    def of(self, estimator: Any) -> AbstractContextManager[Any]:
        """Let the fit of `estimator` notify the watchers of this task."""
        stack = ExitStack()
        for watcher in self.watchers:
            stack.enter_context(watcher.of(estimator))
        return stack

    def __enter__(self) -> Task:
        return self

    def __exit__(self, *error: Any) -> None:
        for watcher in self.watchers:
            watcher.close()

    def __reduce__(self) -> Any:
        return Task, (self.name,)  # without watchers in another process


class Watcher:
    """Base of the watchers of a task; subtasks have watchers of the same class."""

    takes_more: ClassVar[bool] = True  # whether it shows subtasks that were not announced

    def __init__(self, parent: Any = None) -> None:
        self._parent = parent

    def subtask(self) -> Watcher:
        """Make the watcher of a subtask."""
        return type(self)(self)

    def begin(self, name: str, size: int, of: str) -> None:
        """React to the begin of the task."""

    def of(self, estimator: Any) -> AbstractContextManager[Any]:
        """Watch the fit of `estimator` as this task."""
        return nullcontext()

    def end(self, fitted: Callable[[], dict[str, Any]] | None, values: dict[str, float]) -> bool:
        """React to the end of the task; return whether to stop."""
        return False

    def close(self) -> None:
        """Clean up, even if an error kept the task from its end."""


class Bars(Watcher):
    """A progress bar for each task of several subtasks; inner bars vanish at their end."""

    _bar: Any = None

    def begin(self, name: str, size: int, of: str) -> None:
        above = self._parent._bar if self._parent else None
        if size > 1:
            made = bar((), 1, total=size, desc=name, unit=of, leave=above is None)
            self._bar = made if hasattr(made, "update") else None

    def end(self, fitted: Callable[[], dict[str, Any]] | None, values: dict[str, float]) -> bool:
        self.close()
        above = self._parent._bar if self._parent else None
        if above is not None:
            if values:
                above.set_postfix(values, refresh=False)
            above.update()
        return False

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class Headings(Watcher):
    """Prints a line above the table of each of several networks."""

    _size = 0
    _begun = 0

    def begin(self, name: str, size: int, of: str) -> None:
        self._size = size
        if size and self._parent is not None and self._parent._size > 1:
            self._parent._begun += 1
            print(f"{name} {self._parent._begun} of {self._parent._size}")


class SklearnCallbacks(Watcher):
    """Calls the callbacks of ``estimator.set_callbacks`` (scikit-learn 1.9 and later)."""

    takes_more = False

    def __init__(
        self, estimator: Any, data: dict[str, Any], parent: SklearnCallbacks | None = None
    ) -> None:
        super().__init__(parent)
        self._estimator = estimator
        self._data = data  # X, y, metadata
        self._context: Any = None

    def subtask(self) -> SklearnCallbacks:
        return SklearnCallbacks(self._estimator, self._data, self)

    def begin(self, name: str, size: int, of: str) -> None:
        if self._parent is None:
            make = self._estimator._init_callback_context
        else:
            make = self._parent._context.subcontext
        self._context = make(task_name=name, max_subtasks=size)
        self._context.call_on_fit_task_begin(estimator=self._estimator, **self._data)

    def end(self, fitted: Callable[[], dict[str, Any]] | None, values: dict[str, float]) -> bool:
        stops: bool = self._context.call_on_fit_task_end(
            estimator=self._estimator, reconstruction_attributes=fitted, **self._data
        )
        return stops

    def of(self, estimator: Any) -> AbstractContextManager[Any]:
        context: AbstractContextManager[Any] = self._context.propagate_callback_context(estimator)
        return context


def watchers(estimator: Any, X: Any, y: Any, sample_weight: Any = None) -> list[Any]:
    """List the watchers of ``estimator.fit(X, y, sample_weight)``."""
    found: list[Any] = []
    if estimator.verbose:
        found.append(Bars() if estimator.verbose == 1 else Headings())
    if getattr(estimator, "_skl_callbacks", None):
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        found.append(SklearnCallbacks(estimator, {"X": X, "y": y, "metadata": metadata}))
    return found


def parallel(n_jobs: int | None, jobs: Iterable[Any], one_by_one: bool) -> Iterable[Any]:
    """Run joblib's jobs; yield results as they come if `one_by_one`, if the backend can."""
    results: Iterable[Any] = Parallel(
        n_jobs=n_jobs, return_as="generator" if one_by_one else "list"
    )(jobs)
    return results


def everywhere(shared: Any) -> Any:
    """Prepare an object for all jobs of the next `parallel`: a future of it on dask's backend.

    The future travels once to each worker. The scheduler keeps the task that made it, and runs the
    task again if its worker is lost.
    """
    client = getattr(get_active_backend()[0], "client", None)
    if client is None:
        return shared
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sending large graph")
        return client.submit(_itself, shared, pure=False)


def _itself(shared: Any) -> Any:
    return shared
