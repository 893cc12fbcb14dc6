"""Convert values to JSON: a closed set of types. An error names the place of any other value.

JSON's own types stand for themselves. Everything else is an object whose key ``"$"`` gives the
type. Objects of the classes in `skuq.persistence._classes` become the dictionary of their
attributes; objects that occur at several places are stored once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from skuq._utils._parameters import NotSaved
from skuq.exceptions import PersistenceError
from skuq.likelihoods import Likelihood
from skuq.persistence._classes import (
    class_name,
    is_for_fit_only,
    value_name,
)
from skuq.persistence._json import MOST_DEPTH
from skuq.persistence._tensors import TensorWriter
from skuq.posteriors import Posterior

__all__ = ["Encoder", "attribute_names_checked"]

_ALTERNATIVE = (
    "Save other parts in another way (preprocessing with skops, or with joblib, whose files are "
    "for trusted sources only)"
)
_NUMERIC = "biuf"
# What holds rows of the training data, or their features, and what to do instead.
_HOLDS_ROWS = {
    "KNNImputer": "put another transformer in its place",
    "ActiveLearner": "save its estimator_",
    "NoveltyDetector": "choose another measure",  # with the measure "knn"
}
MOST_STRING_BYTES = 64 * 2**20  # of an array of strings, in which all are as wide as the longest


class Encoder:
    """Converts values to JSON, and puts their arrays into `tensors`.

    `special` may encode an object in another way: it maps it to its JSON, or to None. Without
    `keep_rows`, objects that hold rows of the training data are refused.
    """

    def __init__(
        self,
        tensors: TensorWriter,
        special: Callable[[Encoder, Any], Any],
        keep_rows: bool = True,
    ) -> None:
        self.tensors = tensors
        self.keep_rows = keep_rows
        self.notes: list[str] = []  # on values that were left out
        self._special = special
        self._path: list[str] = []
        self._known: dict[int, tuple[Any, int]] = {}  # kept alive, so that their ids stay unique
        self._open: set[int] = set()

    @contextmanager
    def at(self, place: str) -> Iterator[None]:
        """Name the present place, for messages."""
        if len(self._path) > MOST_DEPTH // 2:
            raise PersistenceError(f"{self.place} is nested too deeply to be saved")
        self._path.append(place)
        yield
        self._path.pop()

    @property
    def place(self) -> str:
        return "".join(self._path).lstrip(".") or "the object"

    def __call__(self, value: Any) -> Any:
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return value if math.isfinite(value) else {"$": "float", "value": repr(value)}
        if kind is list:
            return self._items(value)
        if kind is tuple:
            return {"$": "tuple", "items": self._items(value)}
        if kind is dict:
            return self._dict(value)
        if kind is np.ndarray:
            return self._array(value)
        if isinstance(value, Tensor):
            if kind not in (Tensor, torch.nn.Parameter):
                raise self._refusal(value)
            return {"$": "tensor", **self._store_once(self.tensors.add, value)}
        if isinstance(value, np.generic):
            return self._scalar(value)
        return self._other(value)

    def _items(self, values: Any) -> list[Any]:
        found = []
        for index, value in enumerate(values):
            with self.at(f"[{index}]"):
                found.append(self(value))
        return found

    def _dict(self, value: dict[Any, Any]) -> Any:
        found = []
        for key, item in value.items():
            with self.at(f"[{key!r}]"):
                found.append((self(key), self(item)))
        if all(type(key) is str and key != "$" for key in value):
            return dict(found)
        return {"$": "dict", "items": [list(pair) for pair in found]}

    def _array(self, array: np.ndarray) -> Any:
        shape = list(array.shape)
        if array.dtype.kind in _NUMERIC and array.dtype.itemsize <= 8:
            return {"$": "array", **self._store_once(self.tensors.add_array, array)}
        if array.dtype.kind == "U" and array.nbytes <= MOST_STRING_BYTES:
            text = array.ravel().tolist()
            return {"$": "strings", "dtype": array.dtype.str, "shape": shape, "items": text}
        if array.dtype == object:
            return {"$": "objects", "shape": shape, "items": self._items(array.ravel().tolist())}
        raise self._refusal(array, f"an array of dtype {array.dtype}")

    def _store_once(self, add: Callable[[Any], dict[str, Any]], value: Any) -> dict[str, Any]:
        try:
            return add(value)
        except PersistenceError as error:
            raise PersistenceError(f"{self.place}: {error}") from None

    def _scalar(self, value: np.generic) -> Any:
        kind = value.dtype.kind
        if kind in _NUMERIC and value.dtype.itemsize <= 8:
            return {"$": "scalar", "dtype": value.dtype.name, "value": self(value.item())}
        if kind == "U":
            return {"$": "scalar", "dtype": "str", "value": str(value)}
        raise self._refusal(value)

    def _other(self, value: Any) -> Any:
        known = self._known.get(id(value))
        if known is not None:
            return {"$": "again", "id": known[1]}
        if id(value) in self._open:
            raise PersistenceError(f"{self.place} contains itself")
        self._open.add(id(value))
        node = self._special(self, value)
        if node is None:
            node = self._plain_object(value)
        self._open.discard(id(value))
        if "class" in node and isinstance(value, BaseEstimator):
            number = node.setdefault("id", len(self._known))
            self._known[id(value)] = value, number
        return node

    def _plain_object(self, value: Any) -> Any:
        if isinstance(value, type) or callable(value):
            name = value_name(value)
            if name is not None:
                return {"$": "value", "name": name}
        if isinstance(value, np.dtype) and value.kind in _NUMERIC + "UO":
            return {"$": "dtype", "value": value.str}
        if isinstance(value, torch.device):
            return {"$": "device", "value": str(value)}
        if type(value) is slice:
            return {"$": "slice", "items": self._items((value.start, value.stop, value.step))}
        if type(value) is np.random.RandomState:
            _, key, *rest = value.get_state(legacy=True)
            return {"$": "RandomState", "key": self(key), "rest": self._items(rest)}
        if type(value) is torch.Generator and value.device.type == "cpu":
            return {"$": "Generator", **self.tensors.add(value.get_state())}
        name = class_name(type(value))
        if name is None:
            raise self._refusal(value)
        kind = type(value).__name__
        holds_rows = kind in _HOLDS_ROWS and vars(value).get("measure", "knn") == "knn"
        if holds_rows and not self.keep_rows:
            raise PersistenceError(
                f"{self.place or 'the object'} is a {kind}, which holds rows of the training data; "
                "keep_rows=False cannot leave them out. Save with keep_rows=True, or "
                f"{_HOLDS_ROWS[kind]}"
            )
        state = value._asdict() if hasattr(value, "_asdict") else vars(value)
        return {"$": "object", "class": name, "state": self.state(state)}

    def state(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """Encode attributes; those that only another `fit` needs may become notes."""
        found = {}
        for name, value in attribute_names_checked(attributes).items():
            if name == "_skl_callbacks":
                self.notes.append(f"{self.place}: callbacks of set_callbacks")
                continue
            with self.at(f".{name}"):
                found[name] = self.attempt(value) if is_for_fit_only(name) else self(value)
        return found

    def attempt(self, value: Any) -> Any:
        """Encode a value, or note that it cannot be saved."""
        depth, known, opened = len(self._path), dict(self._known), set(self._open)
        n_tensors = len(self.tensors)
        try:
            return self(value)
        except PersistenceError:
            del self._path[depth:]
            self._known, self._open = known, opened
            self.tensors.forget(n_tensors)
            self.notes.append(f"{self.place} = {value!r}"[:500])
            return self(NotSaved(repr(value)[:500]))

    def _refusal(self, value: Any, what: str | None = None) -> PersistenceError:
        kind = type(value)
        if what is None:
            what = f"an object of {kind.__module__}.{kind.__qualname__}"
            if isinstance(value, type) or callable(value):
                what += f", {getattr(value, '__qualname__', value)!s}"[:200]
        hint = _ALTERNATIVE
        if self.place.rpartition("module__")[0] and "module__" in self.place:
            hint = "Let a function or a subclass that takes no such argument build the module"
        elif re.search(r"(^|\.)views\b", self.place):
            hint = (
                "Files hold only the views of skuq.augmentation; else save the estimator inside, "
                "load it, and put it in a FrozenEstimator into a new TestTimeAugmentation"
            )
        elif isinstance(value, Posterior | Likelihood):
            hint = f"Decorate {kind.__name__} with skuq.persistence.saved_as"
        elif kind.__module__.partition(".")[0] == "mapie":
            hint = "Save the estimator inside of it, and conformalize again after loading"
        elif kind.__module__.partition(".")[0] == "skuq":
            hint = "It is not one of the classes of skuq that files may hold"
        return PersistenceError(
            f"{self.place} is {what}, which a file of skuq.save cannot hold: it names only classes "
            f"that skuq knows. {hint}."
        )


def attribute_names_checked(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes; refuse names that attributes of files cannot have."""
    for name in attributes:
        if type(name) is not str or not name.isidentifier() or name.startswith("__"):
            raise PersistenceError(f"{str(name)[:80]!r} is no name of an attribute to be saved")
    return attributes
