"""Recognise a fit in another process by its parameters, its data and the versions."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import types
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from torch import Tensor

from skuq._networks._weights import weights_of
from skuq._training._settings import Trained
from skuq._version import __version__

__all__ = ["describe", "run_identity"]

_BLOCK_BYTES = 16 * 2**20
_WITHOUT_EFFECT = ("checkpoint_dir", "checkpoint_minutes", "on_interrupt", "verbose")


def describe(value: Any, depth: int = 0) -> str:
    """Describe a value in words that are the same in every process.

    The description of a function is its name and code, of a class its name, of any other object its
    class and attributes.
    """
    if depth > 8:
        return "..."
    inner = functools.partial(describe, depth=depth + 1)
    if isinstance(value, np.ndarray):
        return f"array of shape {value.shape}, {value.dtype}, {_digest(value)}"
    if isinstance(value, Tensor):
        return f"tensor of shape {tuple(value.shape)}, {inner(value.detach().cpu().numpy())}"
    if isinstance(value, list | tuple | set | frozenset):
        items = [inner(item) for item in value]
        items = items if isinstance(value, list | tuple) else sorted(items)
        return f"{type(value).__name__}({', '.join(items)})"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{inner(k)}: {inner(v)}' for k, v in value.items())}}}"
    if isinstance(value, functools.partial):
        return f"partial({inner(value.func)}, {inner(value.args)}, {inner(value.keywords)})"
    if isinstance(value, types.MethodType):
        return f"{inner(value.__func__)} of {inner(value.__self__)}"
    if isinstance(value, types.FunctionType):
        bound = [value.__defaults__, [cell.cell_contents for cell in value.__closure__ or ()]]
        code = f"{_code_digest(value.__code__)} {inner(bound)}"
        return f"{value.__module__}.{value.__qualname__} {code}"
    if isinstance(value, type | types.BuiltinFunctionType):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, BaseEstimator):
        return f"{type(value).__name__}({inner(value.get_params(deep=False))})"
    if " at 0x" not in (text := repr(value)):
        return text
    return f"{inner(type(value))}({inner(getattr(value, '__dict__', {}))})"


def _code_digest(code: types.CodeType) -> str:
    parts = [code.co_code.hex(), str(code.co_names)]
    for constant in code.co_consts:
        nested = isinstance(constant, types.CodeType)
        parts.append(_code_digest(constant) if nested else describe(constant))
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=8).hexdigest()


def _digest(array: np.ndarray) -> str:
    """Hash shape, dtype and values of an array; reads a block of rows at a time."""
    digest = hashlib.blake2b(f"{array.shape} {array.dtype}".encode(), digest_size=16)
    if array.dtype.kind == "O":
        digest.update(repr(array.tolist()).encode())
    elif array.size:
        rows = array.reshape(1) if array.ndim == 0 else array
        step = max(1, _BLOCK_BYTES // max(1, rows[:1].nbytes))
        for start in range(0, len(rows), step):
            digest.update(np.ascontiguousarray(rows[start : start + step]).tobytes())
    return digest.hexdigest()


def _weights_digest(networks: list[Trained]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for network in networks:
        for name, tensor in weights_of(network.module).items():
            digest.update(f"{name} {describe(tensor)}".encode())
    return digest.hexdigest()


def run_identity(
    estimator: Any, devices: list[Any], before: list[Trained], root: int, arrays: dict[str, Any]
) -> dict[str, dict[str, str]]:
    """Describe a fit: two fits with equal descriptions give equal networks.

    Parameters
    ----------
    estimator : TorchEstimator
        The estimator; its parameters count.
    devices : list of torch.device
        Only their kind and whether there are several count: on several devices of one kind, their
        number does not change the networks.
    before : list of Trained
        The networks from which a warm start goes on.
    root : int
        The seed. It counts only if `random_state` is given.
    arrays : dict of str to ndarray or None
        The training data.
    """
    named = {name: describe(v) for name, v in estimator.get_params(deep=False).items()}
    for name in (*_WITHOUT_EFFECT, "random_state", "device"):
        named.pop(name, None)
    seed = {} if estimator.random_state is None else {"random_state": str(root)}
    start = {"fitted networks to go on from": _weights_digest(before)} if before else {}
    device = {"device": ("several " if len(devices) > 1 else "") + devices[0].type}
    versions = {name: importlib.metadata.version(name) for name in ("torch", "skorch", "numpy")}
    return {
        "estimator": {"class": type(estimator).__name__},
        "parameters": {**named, **seed, **device, **start},
        "data": {
            name: "none" if array is None else _digest(array if name == "X" else np.asarray(array))
            for name, array in arrays.items()
        },
        "versions": {"skuq": __version__, **versions},
    }
