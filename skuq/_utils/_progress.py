"""What people see while they wait: tasks within tasks, told to whoever watches.

``fit`` is a task, the networks that it trains are its subtasks, their epochs are theirs. Watchers
are tqdm's bars, for ``verbose=1``, and scikit-learn's callbacks; without any, telling costs
nothing.
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
    """`items`, with a bar of tqdm around them if ``verbose=1`` and tqdm is installed."""
    if verbose != 1:
        return items
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return items
    return tqdm(items, **options)


class Task:
    """A task of ``fit`` and its subtasks.

    It is begun and ended once; leaving its ``with`` block without an end (after an error) closes
    what the watchers opened.
    """

    def __init__(self, name: str, watchers: Sequence[Any] = ()) -> None:
        self.name = name
        self.watchers = list(watchers)

    def begin(self, size: int = 0, of: str = "") -> Task:
        """Begin, with at most `size` subtasks, which are called `of`."""
        for watcher in self.watchers:
            watcher.begin(self.name, size, of)
        return self

    def subtask(self, name: str) -> Task:
        return Task(name, [watcher.subtask() for watcher in self.watchers])

    def aside(self, name: str) -> Task:
        """A subtask beyond those that were announced: only bars show it."""
        return Task(name, [w.subtask() for w in self.watchers if w.takes_more])

    def end(self, fitted: Callable[[], dict[str, Any]] | None = None, **values: float) -> bool:
        """End; whether a watcher asks to stop.

        Parameters
        ----------
        fitted : callable, default=None
            Makes the attributes that the estimator would have if ``fit`` stopped here.
        **values : float
            Numbers to show.
        """
        return max([watcher.end(fitted, values) for watcher in self.watchers], default=False)

    def of(self, estimator: Any) -> AbstractContextManager[Any]:
        """While `estimator` is fitted: that is this task, and who watches is told by it."""
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
        return Task, (self.name,)  # nobody watches in another process


class Watcher:
    """One who watches a task; those of its subtasks are of the same kind."""

    takes_more: ClassVar[bool] = True  # subtasks than were announced

    def __init__(self, parent: Any = None) -> None:
        self._parent = parent

    def subtask(self) -> Watcher:
        return type(self)(self)

    def begin(self, name: str, size: int, of: str) -> None:
        """The task begins."""

    def of(self, estimator: Any) -> AbstractContextManager[Any]:
        return nullcontext()

    def end(self, fitted: Callable[[], dict[str, Any]] | None, values: dict[str, float]) -> bool:
        """The task has ended; whether to stop."""
        return False

    def close(self) -> None:
        """The task is over, whether or not it came to its end."""


class Bars(Watcher):
    """A bar for each task of more than one subtask; inner ones vanish when they are done."""

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
    """A line above the table of each of several networks."""

    _size = 0
    _begun = 0

    def begin(self, name: str, size: int, of: str) -> None:
        self._size = size
        if size and self._parent is not None and self._parent._size > 1:
            self._parent._begun += 1
            print(f"{name} {self._parent._begun} of {self._parent._size}")


class SklearnCallbacks(Watcher):
    """Tells the callbacks that ``estimator.set_callbacks`` took (scikit-learn 1.9 and later)."""

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
    """Who watches ``estimator.fit(X, y, sample_weight)``."""
    watching: list[Any] = []
    if estimator.verbose:
        watching.append(Bars() if estimator.verbose == 1 else Headings())
    if getattr(estimator, "_skl_callbacks", None):
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        watching.append(SklearnCallbacks(estimator, {"X": X, "y": y, "metadata": metadata}))
    return watching


def parallel(n_jobs: int | None, jobs: Iterable[Any], one_by_one: bool) -> Iterable[Any]:
    """The results of joblib's jobs, as they come if `one_by_one`, which not all backends can."""
    results: Iterable[Any] = Parallel(
        n_jobs=n_jobs, return_as="generator" if one_by_one else "list"
    )(jobs)
    return results


def everywhere(shared: Any) -> Any:
    """What all jobs of the next `parallel` get: where joblib runs them on dask, a future of it.

    It then travels once to each worker that asks for it. The scheduler, which got it with the task
    whose result it is, gives it again where the worker that had it is lost.
    """
    client = getattr(get_active_backend()[0], "client", None)
    if client is None:
        return shared
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sending large graph")
        return client.submit(_itself, shared, pure=False)


def _itself(shared: Any) -> Any:
    return shared
