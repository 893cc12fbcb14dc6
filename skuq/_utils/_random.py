"""Seeds and generators: every consumer of randomness has its own, the global ones stay untouched.

`random_state` becomes one integer, from which `SeedSequence` derives an independent seed for each
pair (network, purpose). A network's seeds therefore do not depend on how many networks there are.
"""

from __future__ import annotations

import enum
import random
import threading
from typing import Any

import numpy as np
import torch

__all__ = ["PrivateGlobals", "Purpose", "derive_seed", "generator", "root_seed"]


class Purpose(enum.IntEnum):
    """What a seed is for. The numbers are part of what makes results repeatable."""

    INITIALISATION = 0
    SHUFFLING = 1
    DROPOUT = 2
    POSTERIOR = 3
    SPLIT = 4
    BOOTSTRAP = 5
    OTHER = 6
    LIKELIHOOD = 7


def root_seed(random_state: Any) -> int:
    """One integer from scikit-learn's ``random_state`` (None takes fresh entropy)."""
    if random_state is None:
        return int(np.random.SeedSequence().entropy)  # type: ignore[arg-type]
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(0, 2**31 - 1))
    return int(random_state)


def derive_seed(root: int, purpose: Purpose, network: int = 0, *more: int) -> int:
    """The 63-bit seed of one purpose of one network."""
    sequence = np.random.SeedSequence(root, spawn_key=(network, int(purpose), *more))
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    return torch.Generator(device=device).manual_seed(seed)


def _capture() -> tuple:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    return torch.default_generator.get_state(), cuda, np.random.get_state(), random.getstate()  # noqa: NPY002


def _restore(state: tuple) -> None:
    torch_state, cuda, numpy_state, python_state = state
    torch.default_generator.set_state(torch_state)
    if cuda is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(cuda)
    np.random.set_state(numpy_state)  # noqa: NPY002
    random.setstate(python_state)


def _seed(seed: int) -> None:
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)


class PrivateGlobals:
    """A context in which the global generators of torch, NumPy and `random` are private ones.

    Code that only knows the global generators (module constructors, functional dropout) runs in
    it: inside, the generators continue a stream of their own; outside, they are as they were. One
    lock makes such contexts exclusive, so threads that fit at the same time cannot mix streams.
    """

    _lock = threading.RLock()

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._inner: tuple | None = None
        self._outer: tuple | None = None

    def __enter__(self) -> PrivateGlobals:
        self._lock.acquire()
        self._outer = _capture()
        if self._inner is None:
            _seed(self._seed)
        else:
            _restore(self._inner)
        return self

    def state(self) -> tuple | None:
        """Where its streams are."""
        return self._inner

    def load_state(self, state: tuple | None) -> None:
        self._inner = state

    def __exit__(self, *exception: object) -> None:
        assert self._outer is not None
        self._inner = _capture()
        _restore(self._outer)
        self._outer = None
        self._lock.release()

    def restart(self) -> None:
        """Inside of the context: begin the stream anew."""
        _seed(self._seed)
