"""Convert JSON of `skuq.persistence._encoder` to values, and refuse all other JSON.

It looks up names in the tables of `skuq.persistence._classes`. It sets the attributes of an object,
and calls neither its constructor nor other code of it.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator

from skuq.calibration._base import Calibrator
from skuq.exceptions import PersistenceError
from skuq.persistence._classes import classes, values
from skuq.persistence._encoder import MOST_STRING_BYTES, attribute_names_checked
from skuq.persistence._tensors import TensorReader

__all__ = ["Decoder", "defaults_of"]

# Weight of an estimator in numbers: printing takes about as long, longer at deeper levels.
_ESTIMATOR_WEIGHT = 4000
_MOST_WALKED = 1_000_000  # 250 estimators, which scikit-learn prints within seconds
_MOST_REPEATED = 4  # a walk may meet this many times the stored values, whatever their number


def defaults_of(cls: Any, state: dict[str, Any]) -> dict[str, Any]:
    """Return defaults of parameters that an estimator of an older version lacks."""
    if not issubclass(cls, BaseEstimator):
        return {}
    missing = {*cls._get_param_names()} - {*state}
    parameters = inspect.signature(cls).parameters if missing else {}
    if without := [name for name in missing if parameters[name].default is inspect.Parameter.empty]:
        raise PersistenceError(f"{cls.__name__} lacks its parameters {sorted(without)}")
    return {name: parameters[name].default for name in missing}


class Decoder:
    """Makes values from JSON of `Encoder`, or raises PersistenceError.

    `special` maps types of nodes, by name, to functions of the decoder and the node that decode
    them instead.
    """

    def __init__(
        self, tensors: TensorReader, special: dict[str, Callable[[Decoder, dict[str, Any]], Any]]
    ) -> None:
        self.tensors = tensors
        self._special = special
        self._known: dict[int, tuple[Any, int]] = {}  # values with their weights
        self._stored = self._walked = 0  # weights of stored values, and of values in a walk

    def __call__(self, node: Any) -> Any:
        self._weigh(1)
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
        before = self._walked
        try:
            value = read(self, node)
        except PersistenceError:
            raise
        except Exception as error:  # a forged value can lead to any error
            raise PersistenceError(
                f"a value of type {kind!r} is malformed: {type(error).__name__}: {error}"[:500]
            ) from error
        # Only estimators may stand at several places. Tuples of shared tuples could be small in a
        # file, but would take for ever to print or hash.
        if isinstance(value, BaseEstimator) and kind != "again":
            self._weigh(_ESTIMATOR_WEIGHT)
            if "id" in node:
                self._known[_index(node["id"])] = value, self._walked - before
        return value

    def again(self, node: dict[str, Any]) -> Any:
        """Return an estimator that also stands at another place.

        Printing or cloning an estimator visits all that it holds, once for each place. Twenty
        levels that each hold the next one twice would take for ever.
        """
        value, weight = self._known[_index(node["id"])]
        self._walked += weight
        if self._walked > max(_MOST_WALKED, _MOST_REPEATED * self._stored):
            raise PersistenceError(
                "estimators in the file hold one another so many times that to print or clone "
                "them would take too long; expected each of them at a few places only. If the "
                "file is yours, fit and save the estimator with a clone at each place"
            )
        return value

    def _weigh(self, weight: int) -> None:
        self._stored += weight
        self._walked += weight

    def plain_object(self, node: dict[str, Any]) -> Any:
        """Make an instance of a class in the table: set its attributes, call none of its code."""
        name = node["class"]
        cls = classes().get(name) if isinstance(name, str) else None
        if cls is None:
            raise PersistenceError(
                f"{str(name)[:80]!r} is no class that skuq knows. If another package defines it, "
                "import that package before you load; if skuq does, use a newer version"
            )
        state = attribute_names_checked(self.mapping(node["state"]))
        if issubclass(cls, tuple):
            return cls(**state)
        made = object.__new__(cls)
        made.__dict__.update({**defaults_of(cls, state), **state})
        if isinstance(made, Calibrator):
            made.check_learnt()
        return made

    def mapping(self, node: Any) -> dict[str, Any]:
        if not isinstance(node, dict) or "$" in node:
            raise PersistenceError("attributes are no JSON object")
        return {key: self(item) for key, item in node.items()}

    def items(self, node: Any) -> list[Any]:
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


def _float(decoder: Decoder, node: dict[str, Any]) -> float:
    return float(_matching("-?inf|nan", node["value"]))


def _dict(decoder: Decoder, node: dict[str, Any]) -> dict[Any, Any]:
    pairs = [decoder.items(pair) for pair in node["items"]]
    return dict(pairs)


def _shaped(values: list[Any], dtype: Any, shape: Any) -> np.ndarray:
    if not isinstance(shape, list) or math.prod(map(_index, shape)) != len(values):
        raise PersistenceError(f"{len(values)} values do not fill shape {str(shape)[:80]}")
    array = np.empty(len(values), dtype)
    array[:] = values
    return array.reshape(shape)


def _strings(decoder: Decoder, node: dict[str, Any]) -> np.ndarray:
    values = node["items"]
    if not isinstance(values, list) or not all(type(value) is str for value in values):
        raise PersistenceError("an array of strings holds something else")
    dtype = np.dtype(_matching(r"[<>]U\d{1,6}", node["dtype"]))
    if len(values) * dtype.itemsize > MOST_STRING_BYTES:
        raise PersistenceError(f"{len(values)} strings of {dtype} would take too much memory")
    return _shaped(values, dtype, node["shape"])


def _objects(decoder: Decoder, node: dict[str, Any]) -> np.ndarray:
    values = decoder.items(node["items"])
    array = np.empty(len(values), object)
    for index, value in enumerate(values):  # NumPy would look into sequences
        array[index] = value
    if math.prod(map(_index, node["shape"])) != len(values):
        raise PersistenceError(f"{len(values)} values do not fill shape {node['shape']}")
    return array.reshape(node["shape"])


def _scalar(decoder: Decoder, node: dict[str, Any]) -> Any:
    if node["dtype"] == "str":
        return np.str_(_matching(r"(?s).*", node["value"]))
    dtype = np.dtype(_matching(r"bool|u?int(8|16|32|64)|float(16|32|64)", node["dtype"]))
    value = decoder(node["value"])
    if type(value) not in (bool, int, float):
        raise PersistenceError(f"{str(value)[:80]!r} is no number")
    return dtype.type(value)


def _value(decoder: Decoder, node: dict[str, Any]) -> Any:
    name = node["name"]
    if not isinstance(name, str) or name not in values():
        raise PersistenceError(f"{str(name)[:80]!r} is nothing that this version of skuq knows")
    return values()[name]


def _random_state(decoder: Decoder, node: dict[str, Any]) -> np.random.RandomState:
    made = np.random.RandomState(0)
    made.set_state(("MT19937", decoder(node["key"]), *decoder.items(node["rest"])))
    return made


def _generator(decoder: Decoder, node: dict[str, Any]) -> torch.Generator:
    made = torch.Generator()
    made.set_state(decoder.tensors.get(node))
    return made


_READERS: dict[str, Callable[[Decoder, dict[str, Any]], Any]] = {
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
