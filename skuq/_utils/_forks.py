"""Support of processes that were forked after torch had started threads."""

from __future__ import annotations

import os

import torch

__all__ = ["one_thread_if_forked"]

_IMPORTED_IN = os.getpid()


def one_thread_if_forked() -> None:
    """Compute with one thread in a forked process.

    The threads of OpenMP do not survive a fork, but OpenMP does not notice. With more than one
    thread, the first large operation would wait for them for ever (pytorch #17199). Workers of loky
    and of spawn are no forks.
    """
    if os.getpid() != _IMPORTED_IN and torch.get_num_threads() > 1:
        torch.set_num_threads(1)
