"""Checkpoints: files with the state of a training, which are complete or missing and hold no code.

`numpy.savez` writes the file, a zip archive of arrays. One array is JSON that says how the values
are nested. The file gets a temporary name first, is flushed to the disk, and is then renamed: a
killed process leaves the old file or the new one. A file holds digests of its content, the name of
its training, and the run that wrote it. Reading refuses a file that was damaged, edited or mixed up
with another one, because the fit would go on from it to other networks without a warning.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from skuq._utils._files import remove_leftovers, replace_file
from skuq.exceptions import DivergedError

__all__ = ["Checkpoints", "checked_type", "storable"]

_FORMAT = 2
_Kind = TypeVar("_Kind")
_DICTS: dict[str, Any] = {"dict": dict, "OrderedDict": OrderedDict, "Counter": Counter}


# ---------------------------------------------------------------------------------------------
# Nested values as JSON and arrays


def _encode(value: Any, arrays: list[np.ndarray]) -> Any:
    """Convert a value to JSON and put its arrays into `arrays`. TypeError for other kinds."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Tensor):
        flat = value.detach().cpu().contiguous().reshape(-1)
        tensor = {"dtype": str(value.dtype).removeprefix("torch."), "shape": list(value.shape)}
        return {"tensor": _add(flat.view(torch.uint8).numpy(), arrays), **tensor} | {
            "device": str(value.device)
        }
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufcUS":
        kind = "array" if isinstance(value, np.ndarray) else "scalar"
        return {kind: _add(np.asarray(value), arrays)}
    if isinstance(value, list):
        return [_encode(item, arrays) for item in value]
    if isinstance(value, tuple | set):
        kind = "tuple" if isinstance(value, tuple) else "set"
        return {kind: [_encode(item, arrays) for item in value]}
    if isinstance(value, dict):
        kind = type(value).__name__ if type(value).__name__ in _DICTS else "dict"
        return {kind: [[_encode(k, arrays), _encode(v, arrays)] for k, v in value.items()]}
    raise TypeError(f"a value of type {type(value).__name__} cannot be stored: {value!r:.100}")


def _add(array: np.ndarray, arrays: list[np.ndarray]) -> int:
    arrays.append(array)
    return len(arrays) - 1


def _decode(value: Any, array: Callable[[int], np.ndarray]) -> Any:
    """Undo `_encode`; `array` returns an array by its index."""
    if isinstance(value, list):
        return [_decode(item, array) for item in value]
    if not isinstance(value, dict):
        return value
    kind, content = next(iter(value.items()))
    if kind == "tensor":
        tensor = torch.empty(value["shape"], dtype=getattr(torch, value["dtype"]))
        if tensor.numel():  # copied, so that torch chooses its alignment in memory
            tensor.view(-1).view(torch.uint8).copy_(torch.from_numpy(array(content)))
        return _moved_if_possible(tensor, value["device"])
    if kind in ("array", "scalar"):
        return array(content) if kind == "array" else array(content)[()]
    if kind in ("tuple", "set"):
        return (tuple if kind == "tuple" else set)(_decode(item, array) for item in content)
    return _DICTS[kind]({_decode(k, array): _decode(v, array) for k, v in content})


def _moved_if_possible(tensor: Tensor, device: str) -> Tensor:
    """Move a tensor to its former device; leave it on the CPU if there is no such device."""
    try:
        return tensor.to(device)
    except (RuntimeError, AssertionError):
        return tensor


def storable(value: Any) -> bool:
    """Return whether a checkpoint can hold `value`."""
    try:
        _encode(value, [])
    except TypeError:
        return False
    return True


def checked_type(value: Any, kind: type[_Kind]) -> _Kind:
    """Return `value`; TypeError if it is not exactly of this type."""
    if type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}, got {type(value).__name__}")
    return value


# ---------------------------------------------------------------------------------------------
# Files


def _digest(array: np.ndarray) -> str:
    """Hash the type, the shape and the values of an array, for any memory layout."""
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    digest.update(array.tobytes())
    return digest.hexdigest()


def _write(path: Path, state: dict[str, Any]) -> None:
    arrays: list[np.ndarray] = []
    encoded = _encode(state, arrays)
    text = json.dumps({"state": encoded, "digests": [_digest(array) for array in arrays]})
    content: Any = {f"array_{index}": array for index, array in enumerate(arrays)}
    content["json"] = np.frombuffer(text.encode(), np.uint8)
    content["digest"] = np.array(_digest(content["json"]))
    replace_file(path, lambda file: np.savez(file, **content))


def _read(path: Path) -> Any:
    """Read a file of `_write`; a file from elsewhere may raise any exception."""
    # Opened here, because NumPy leaves a file open if it is no archive.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        text = arrays["json"]
        _check(_digest(text) == arrays["digest"].item(), "its content was changed")
        content = json.loads(text.tobytes())

        def array(index: int) -> np.ndarray:
            found: np.ndarray = arrays[f"array_{index}"]
            _check(_digest(found) == content["digests"][index], f"its array {index} was changed")
            return found

        return _decode(content["state"], array)


def _check(is_right: bool, wrong: str) -> None:
    if not is_right:
        raise ValueError(wrong)


@contextmanager
def _naming_file_in_errors(path: Path) -> Iterator[None]:
    """Name the file and the fix in any error of reading or restoring it.

    A lack of memory is not the file's fault and passes unchanged.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        text = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(
            f"{path} cannot be read as a checkpoint of skuq ({text}); delete {path.parent} to "
            "begin anew"
        ) from error


# ---------------------------------------------------------------------------------------------
# The files of a fit


class Checkpoints:
    """The checkpoints of one fit: a folder with a description of it and a file for each training.

    Use it as a context around the fit: at the end of a fit, the context removes the files.

    Parameters
    ----------
    folder : path
        The folder; it is made if it does not exist.
    minutes : float
        Minimum minutes between two checkpoints of a training; 0 writes one after every epoch.
    stage : str, default=""
        The beginning of the names of the trainings.
    run : str, default=""
        A random name of this fit, unlike all others; `begin` makes it.
    """

    def __init__(self, folder: Any, minutes: float, stage: str = "", run: str = "") -> None:
        self.folder = Path(folder).expanduser().absolute()
        self.minutes = minutes
        self._stage = stage
        self._run = run
        self._begun = time.monotonic()
        self._written: dict[str, float] = {}  # times by training, of which several may run at once
        self._stays = False

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Remove the files after a fit that ended or diverged, so that the next one begins anew."""
        if issubclass(kind, DivergedError) if kind else not self._stays:
            self._path("run").unlink(missing_ok=True)  # first: without it, other files are ignored
            self._remove_trainings()

    def stay(self) -> None:
        """Keep the files: the fit may go on."""
        self._stays = True

    def stage(self, name: str) -> Checkpoints:
        """Return the checkpoints of another part of the same fit, with other names of trainings."""
        return Checkpoints(self.folder, self.minutes, f"{self._stage}{name}-", self._run)

    def _path(self, name: str) -> Path:
        return self.folder / f"skuq-{self._stage}{name}.npz"

    def begin(self, identity: dict[str, dict[str, str]], root: int) -> int:
        """Begin a fit, or go on with the fit that the folder holds; return its seed.

        Parameters
        ----------
        identity : dict of dict of str
            A description of the fit, by kind ("parameters", "data", ...) and name. It must be the
            same when a fit goes on.
        root : int
            The seed of a new fit.

        Raises
        ------
        ValueError
            If the folder holds another fit, or cannot be read.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"checkpoint_dir={str(self.folder)!r} is not a folder that can be made: {error}"
            ) from None
        remove_leftovers(self.folder)
        path = self._path("run")
        if not path.exists():
            self._remove_trainings()
            self._run = secrets.token_hex(16)
            _write(path, self._labelled("run", {"identity": identity, "root": root}))
            return root
        with _naming_file_in_errors(path):
            content = _read(path)
            version = checked_type(content["format"], int)
        if version != _FORMAT:
            raise ValueError(
                f"{path} has format {version}, expected {_FORMAT}: it is of another version of "
                f"skuq; delete {self.folder} to begin anew"
            )
        with _naming_file_in_errors(path):
            self._run = checked_type(content["run"], str)
            begun = self._unlabelled("run", content)
            differences = _differences(begun["identity"], identity)
            root = checked_type(begun["root"], int)
        if differences:
            raise ValueError(
                f"checkpoint_dir={str(self.folder)!r} holds a fit that was begun with other "
                f"{'; '.join(differences)}. Give the same to go on with it, another folder, or "
                "delete this one to begin anew"
            )
        return root

    @contextmanager
    def restored(self, name: str) -> Iterator[dict[str, Any] | None]:
        """Yield the last state of a training, or None; restore it inside the context.

        Raises
        ------
        ValueError
            If this run did not write the file under this name, or if the code inside the context
            fails. The message names the file.
        """
        path = self._path(name)
        with _naming_file_in_errors(path):
            yield self._unlabelled(name, _read(path)) if path.exists() else None

    def _labelled(self, name: str, state: dict[str, Any]) -> dict[str, Any]:
        label = {"format": _FORMAT, "run": self._run, "name": f"{self._stage}{name}"}
        return {**label, "state": state}

    def _unlabelled(self, name: str, content: dict[str, Any]) -> dict[str, Any]:
        """Return the state in a file; ValueError if it belongs to another training or run."""
        expected, found = f"{self._stage}{name}", checked_type(content["name"], str)
        _check(content["format"] == _FORMAT, "it has another format")
        _check(content["run"] == self._run, "another run wrote it")
        _check(found == expected, f"it holds the training {found!r}, expected {expected!r}")
        state: dict[str, Any] = checked_type(content["state"], dict)
        return state

    def due(self, name: str) -> bool:
        """Return whether it is time for another checkpoint of a training."""
        before = self._written.get(name, self._begun)
        return time.monotonic() - before >= 60 * self.minutes

    def save(self, name: str, state: dict[str, Any]) -> None:
        _write(self._path(name), self._labelled(name, state))
        self._written[name] = time.monotonic()

    def _remove_trainings(self) -> None:
        for path in self.folder.glob("skuq-*.npz"):
            path.unlink(missing_ok=True)


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Describe the differences, kind by kind."""
    found = []
    for kind in sorted({*before, *now}):
        then, today = before.get(kind, {}), now.get(kind, {})
        names = [n for n in sorted({*then, *today}) if then.get(n) != today.get(n)]
        if names and kind == "data":
            found.append(f"data ({', '.join(names)})")
        elif names:
            changes = (f"{n}={then.get(n)} there, {today.get(n)} here" for n in names)
            found.append(f"{kind} ({', '.join(changes)})")
    return found
