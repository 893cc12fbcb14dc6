"""Seeds and generators: each consumer of randomness has its own; global generators do not move.

`random_state` becomes one integer, from which `SeedSequence` derives an independent seed for each
pair (network, purpose). So the seeds of a network do not depend on the number of networks.
"""

from __future__ import annotations

import enum
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch

from skuq._utils._turns import Turns

__all__ = ["PrivateGlobals", "Purpose", "derive_seed", "generator", "root_seed"]


class Purpose(enum.IntEnum):
    """The purpose of a seed. Results depend on these numbers, so they never change."""

    INITIALISATION = 0
    SHUFFLING = 1
    DROPOUT = 2
    POSTERIOR = 3
    SPLIT = 4
    BOOTSTRAP = 5
    OTHER = 6
    LIKELIHOOD = 7


def root_seed(random_state: Any) -> int:
    """Make one integer of scikit-learn's ``random_state`` (None takes fresh entropy)."""
    if random_state is None:
        return int(np.random.SeedSequence().entropy)  # type: ignore[arg-type]
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(0, 2**31 - 1))
    return int(random_state)


def derive_seed(root: int, purpose: Purpose, network: int = 0, *more: int) -> int:
    """Derive the 63-bit seed of one purpose of one network."""
    sequence = np.random.SeedSequence(root, spawn_key=(network, int(purpose), *more))
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Make a seeded generator of torch."""
    return torch.Generator(device=device).manual_seed(seed)


def _capture() -> tuple[Any, ...]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    return torch.default_generator.get_state(), cuda, np.random.get_state(), random.getstate()  # noqa: NPY002


def _restore(state: tuple[Any, ...]) -> None:
    torch_state, cuda, numpy_state, python_state = state
    torch.default_generator.set_state(torch_state)
    if cuda is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(cuda)
    np.random.set_state(numpy_state)  # noqa: NPY002
    random.setstate(python_state)


def _moved(before: tuple[Any, ...], after: tuple[Any, ...]) -> tuple[str, ...]:
    """Return the names of the global generators that have moved."""
    (torch_one, cuda_one, numpy_one, python_one), (torch_two, cuda_two, numpy_two, python_two) = (
        before,
        after,
    )
    devices = zip(cuda_one or [], cuda_two or [])
    same = {
        "torch": torch.equal(torch_one, torch_two) and all(torch.equal(a, b) for a, b in devices),
        "numpy.random": all(np.array_equal(a, b) for a, b in zip(numpy_one, numpy_two)),
        "random": python_one == python_two,
    }
    return tuple(name for name, is_same in same.items() if not is_same)


def _seed(seed: int) -> None:
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)


class PrivateGlobals:
    """A context in which the global generators of torch, NumPy and `random` are private ones.

    It is for code that only knows the global generators (module constructors, functional dropout,
    samplers, augmentation). Inside, the generators continue a private stream; outside, they are as
    before. Threads take turns, so that fits at the same time cannot mix streams. A thread that
    draws from global generators without such a context, while another thread is in one, moves the
    stream of that thread; this cannot be prevented.

    Parameters
    ----------
    seed : int
        Seed of the private stream.
    of_training : bool, default=False
        Whether the context lasts for a whole training; see `in_training`.
    """

    _turns = Turns()
    # State of the thread that has the turn:
    _active: ClassVar[
        list[PrivateGlobals]
    ] = []  # contexts of all threads that were entered and not left
    _placed: ClassVar[PrivateGlobals | None] = (
        None  # the context whose stream the generators continue
    )
    _outer: ClassVar[tuple[Any, ...]] = ()  # their states outside of all contexts

    def __init__(self, seed: int, *, of_training: bool = False) -> None:
        self._seed = seed
        self._of_training = of_training
        self._inner: tuple[Any, ...] | None = None
        self._around: PrivateGlobals | None = None  # the enclosing context of this thread
        self._lent_by: int | None = None  # the thread that lent its turn

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_around": None, "_lent_by": None}

    def __enter__(self) -> PrivateGlobals:
        is_nested = self._turns.mine
        self._turns.acquire()
        try:
            self._around = PrivateGlobals._placed if is_nested else None
            self._place(self)
            self._active.append(self)
        except BaseException:
            self._turns.release()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        if self not in self._active:  # it was left by `give_way`
            return
        self._active.remove(self)
        self._place(self._around or self._next())
        self._around = None
        self._turns.release()

    def _next(self) -> PrivateGlobals | None:
        """Choose the context to place while no thread has the turn: one that goes on drawing."""
        me = threading.get_ident()
        return max(self._active, key=lambda c: (c._lent_by == me, bool(c._lent_by)), default=None)

    @classmethod
    def _place(cls, context: PrivateGlobals | None) -> None:
        """Set the generators to the stream of a context; None restores their outer states."""
        placed = cls._placed
        if placed is context:
            return
        if placed is None:
            cls._outer = _capture()
        else:
            placed._inner = _capture()
        if context is None:
            _restore(cls._outer)
        elif context._inner is None:
            _seed(context._seed)
        else:
            _restore(context._inner)
        cls._placed = context

    @classmethod
    def in_training(cls) -> bool:
        """Return whether this thread is inside of a training with such a context."""
        return cls._turns.mine and cls._placed is not None and cls._placed._of_training

    def state(self) -> tuple[Any, ...] | None:
        """Return the states of its generators."""
        return _capture() if self._placed is self else self._inner

    def load_state(self, state: tuple[Any, ...] | None) -> None:
        """Set the states of its generators."""
        self._inner = state
        if self._placed is self and state is not None:
            _restore(state)

    def restart(self) -> None:
        """Begin the stream anew, inside of the context."""
        _seed(self._seed)

    def give_way(self, *, may_leave: bool = False) -> None:
        """Let waiting threads take their turn, inside of a context that lasts.

        With `may_leave`, the context is left for good if nothing was drawn in it so far; then it
        never makes other threads wait again.
        """
        if not self._turns.wanted or self not in self._active:
            return
        if may_leave and not self.drawn():
            self.__exit__()
        else:
            with self.lent():
                pass

    def drawn(self) -> tuple[str, ...]:
        """Return the names of the generators that were drawn from in it."""
        now = self.state()
        if now is None:
            return ()
        with PrivateGlobals(self._seed):
            return _moved(_capture(), now)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Let other threads take their turn meanwhile, inside of the context.

        It is for code that may wait for other threads, which need a turn to go on. This code still
        draws from its own stream, unless another thread has the turn at that moment.
        """
        if self not in self._active:
            yield
            return
        self._lent_by = threading.get_ident()
        self._turns.release()
        try:
            yield
        finally:
            self._turns.acquire()
            self._lent_by = None
            self._place(self)
