"""From values to JSON and back: a closed set of types, everything else is refused with its place.

JSON's own types stand for themselves, all else is an object with the key ``"$"``, which says of
what type it is. Objects of the classes in `skuq.persistence._classes` are the dictionary of their
attributes; those that occur at several places are stored once.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from skuq._parameters import NotSaved
from skuq.exceptions import PersistenceError
from skuq.persistence._classes import (
    class_name,
    classes,
    is_for_fit_only,
    value_name,
    values,
)
from skuq.persistence._json import MOST_DEPTH
from skuq.persistence._tensors import TensorReader, TensorWriter

__all__ = ["Decoder", "Encoder", "attribute_names_checked", "defaults_of"]

_ALTERNATIVE = (
    "Save the rest of it in another way (preprocessing with skops, or with joblib, whose files are "
    "for trusted sources only)"
)
_NUMERIC = "biuf"


class Encoder:
    """Makes JSON of values, and puts their arrays into `tensors`.

    `special` may take a class over: it maps an instance to its JSON, or to None.
    """

    def __init__(self, tensors: TensorWriter, special: Callable[[Encoder, Any], Any]) -> None:
        self.tensors = tensors
        self.notes: list[str] = []  # what was left out
        self._special = special
        self._path: list[str] = []
        self._known: dict[int, tuple[Any, int]] = {}  # kept alive: their ids are theirs
        self._open: set[int] = set()

    @contextmanager
    def at(self, place: str) -> Iterator[None]:
        """Where we are, for messages."""
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
                raise self._refused(value)
            return {"$": "tensor", **self._stored(self.tensors.add, value)}
        if isinstance(value, np.generic):
            return self._scalar(value)
        return self._other(value)

    def _items(self, values: Any) -> list[Any]:
        found = []
        for index, value in enumerate(values):
            with self.at(f"[{index}]"):
                found.append(self(value))
        return found

    def _dict(self, value: dict) -> Any:
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
            return {"$": "array", **self._stored(self.tensors.add_array, array)}
        if array.dtype.kind == "U":
            text = array.ravel().tolist()
            return {"$": "strings", "dtype": array.dtype.str, "shape": shape, "items": text}
        if array.dtype == object:
            return {"$": "objects", "shape": shape, "items": self._items(array.ravel().tolist())}
        raise self._refused(array, f"an array of dtype {array.dtype}")

    def _stored(self, add: Callable[[Any], dict], value: Any) -> dict:
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
        raise self._refused(value)

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
        if "class" in node:
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
            raise self._refused(value)
        state = value._asdict() if hasattr(value, "_asdict") else vars(value)
        return {"$": "object", "class": name, "state": self.state(state)}

    def state(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """Attributes; those that only another `fit` would need may become notes."""
        found = {}
        for name, value in attribute_names_checked(attributes).items():
            if name == "_skl_callbacks":
                self.notes.append(f"{self.place}: callbacks of set_callbacks")
                continue
            with self.at(f".{name}"):
                found[name] = self.attempt(value) if is_for_fit_only(name) else self(value)
        return found

    def attempt(self, value: Any) -> Any:
        """The same as a call, with a note in the place of what cannot be saved."""
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

    def _refused(self, value: Any, what: str | None = None) -> PersistenceError:
        kind = type(value)
        if what is None:
            what = f"an object of {kind.__module__}.{kind.__qualname__}"
            if isinstance(value, type) or callable(value):
                what += f", {getattr(value, '__qualname__', value)!s}"[:200]
        hint = _ALTERNATIVE
        if self.place.rpartition("module__")[0] and "module__" in self.place:
            hint = "Let a function or a subclass that takes no such argument build the module"
        elif kind.__module__.partition(".")[0] == "mapie":
            hint = "Save the estimator inside of it, and conformalize again where it is loaded"
        elif kind.__module__.partition(".")[0] == "skuq":
            hint = "It is none of the classes of skuq that are saved"
        return PersistenceError(
            f"{self.place} is {what}, which a file of skuq.save cannot hold: it names only what "
            f"skuq knows. {hint}."
        )


def attribute_names_checked(attributes: dict[str, Any]) -> dict[str, Any]:
    """The same, if they are names that attributes may have."""
    for name in attributes:
        if type(name) is not str or not name.isidentifier() or name.startswith("__"):
            raise PersistenceError(f"{str(name)[:80]!r} is no name of an attribute to be saved")
    return attributes


def defaults_of(cls: Any, state: dict[str, Any]) -> dict[str, Any]:
    """Parameters that an estimator of another version did not have yet."""
    if not issubclass(cls, BaseEstimator):
        return {}
    missing = {*cls._get_param_names()} - {*state}
    parameters = inspect.signature(cls).parameters if missing else {}
    if without := [name for name in missing if parameters[name].default is inspect.Parameter.empty]:
        raise PersistenceError(f"{cls.__name__} lacks its parameters {sorted(without)}")
    return {name: parameters[name].default for name in missing}


class Decoder:
    """Makes values of JSON that `Encoder` made, or raises PersistenceError.

    `special` may take types of nodes over: by name, functions of the decoder and the node.
    """

    def __init__(
        self, tensors: TensorReader, special: dict[str, Callable[[Decoder, dict], Any]]
    ) -> None:
        self.tensors = tensors
        self._special = special
        self._known: dict[int, Any] = {}

    def __call__(self, node: Any) -> Any:
        if isinstance(node, list):
            return [self(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$" not in node:
            return {key: self(item) for key, item in node.items()}
        kind = node["$"]
        read = _READERS.get(kind) if isinstance(kind, str) else None
        read = self._special.get(kind, read) if isinstance(kind, str) else None
        if read is None:
            raise PersistenceError(f"a value of unknown type {str(kind)[:80]!r}")
        try:
            value = read(self, node)
        except PersistenceError:
            raise
        except Exception as error:  # whatever else a forged value leads to
            raise PersistenceError(
                f"a value of type {kind!r} is malformed: {type(error).__name__}: {error}"[:500]
            ) from error
        if "id" in node and kind != "again":
            self._known[_index(node["id"])] = value
        return value

    def again(self, node: dict) -> Any:
        return self._known[_index(node["id"])]

    def plain_object(self, node: dict) -> Any:
        """An instance of a class in the table: its attributes are set, nothing of it runs."""
        name = node["class"]
        cls = classes().get(name) if isinstance(name, str) else None
        if cls is None:
            raise PersistenceError(
                f"{str(name)[:80]!r} is no class that this version of skuq knows"
            )
        state = attribute_names_checked(self.mapping(node["state"]))
        if issubclass(cls, tuple):
            return cls(**state)
        made = object.__new__(cls)
        made.__dict__.update({**defaults_of(cls, state), **state})
        return made

    def mapping(self, node: Any) -> dict:
        if not isinstance(node, dict) or "$" in node:
            raise PersistenceError("attributes are no JSON object")
        return {key: self(item) for key, item in node.items()}

    def items(self, node: Any) -> list:
        if not isinstance(node, list):
            raise PersistenceError("items are no JSON list")
        return [self(item) for item in node]


def _index(value: Any) -> int:
    if type(value) is not int:
        raise PersistenceError(f"{str(value)[:80]!r} is no number of an object")
    return value


def _matching(pattern: str, text: Any) -> str:
    if not isinstance(text, str) or not re.fullmatch(pattern, text, re.ASCII):
        raise PersistenceError(f"{str(text)[:80]!r} is not of the form {pattern}")
    return text


def _float(decoder: Decoder, node: dict) -> float:
    return float(_matching("-?inf|nan", node["value"]))


def _dict(decoder: Decoder, node: dict) -> dict:
    return {key: value for key, value in (decoder.items(pair) for pair in node["items"])}


def _shaped(values: list, dtype: Any, shape: Any) -> np.ndarray:
    if not isinstance(shape, list) or math.prod(map(_index, shape)) != len(values):
        raise PersistenceError(f"{len(values)} values do not fill shape {str(shape)[:80]}")
    array = np.empty(len(values), dtype)
    array[:] = values
    return array.reshape(shape)


def _strings(decoder: Decoder, node: dict) -> np.ndarray:
    values = node["items"]
    if not isinstance(values, list) or not all(type(value) is str for value in values):
        raise PersistenceError("an array of strings holds something else")
    dtype = np.dtype(_matching(r"[<>]U\d{1,9}", node["dtype"]))
    widest = max(map(len, values), default=0)
    if dtype.itemsize // 4 > max(widest, 1) and len(values) * dtype.itemsize > 2**20:
        raise PersistenceError(f"strings of at most {widest} characters declare {dtype}")
    return _shaped(values, dtype, node["shape"])


def _objects(decoder: Decoder, node: dict) -> np.ndarray:
    values = decoder.items(node["items"])
    array = np.empty(len(values), object)
    for index, value in enumerate(values):  # NumPy would look into sequences
        array[index] = value
    if math.prod(map(_index, node["shape"])) != len(values):
        raise PersistenceError(f"{len(values)} values do not fill shape {node['shape']}")
    return array.reshape(node["shape"])


def _scalar(decoder: Decoder, node: dict) -> Any:
    if node["dtype"] == "str":
        return np.str_(_matching(r"(?s).*", node["value"]))
    dtype = np.dtype(_matching(r"bool|u?int(8|16|32|64)|float(16|32|64)", node["dtype"]))
    value = decoder(node["value"])
    if type(value) not in (bool, int, float):
        raise PersistenceError(f"{str(value)[:80]!r} is no number")
    return dtype.type(value)


def _value(decoder: Decoder, node: dict) -> Any:
    name = node["name"]
    if not isinstance(name, str) or name not in values():
        raise PersistenceError(f"{str(name)[:80]!r} is nothing that this version of skuq knows")
    return values()[name]


def _random_state(decoder: Decoder, node: dict) -> np.random.RandomState:
    made = np.random.RandomState(0)
    made.set_state(("MT19937", decoder(node["key"]), *decoder.items(node["rest"])))
    return made


def _generator(decoder: Decoder, node: dict) -> torch.Generator:
    made = torch.Generator()
    made.set_state(decoder.tensors.get(node))
    return made


_READERS: dict[str, Callable[[Decoder, dict], Any]] = {
    "float": _float,
    "tuple": lambda decoder, node: tuple(decoder.items(node["items"])),
    "dict": _dict,
    "array": lambda decoder, node: decoder.tensors.get_array(node),
    "tensor": lambda decoder, node: decoder.tensors.get(node),
    "strings": _strings,
    "objects": _objects,
    "scalar": _scalar,
    "value": _value,
    "dtype": lambda d, node: np.dtype(
        _matching(r"[<>|=]?([biuf][1248]|U\d{1,6}|O)", node["value"])
    ),
    "device": lambda d, node: torch.device(_matching(r"[a-z]{1,16}(:\d{1,3})?", node["value"])),
    "slice": lambda decoder, node: slice(*decoder.items(node["items"])),
    "RandomState": _random_state,
    "Generator": _generator,
    "again": Decoder.again,
    "object": Decoder.plain_object,
}
