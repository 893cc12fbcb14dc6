"""Show the content of a file without building any of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from skuq._utils._typing import StrPath
from skuq.persistence import _container
from skuq.persistence._save import manifest_of
from skuq.persistence._tensors import header_of, usual_order

__all__ = ["Contents", "inspect"]

_LONGEST = 60  # characters of a value


@dataclass(frozen=True)
class Contents:
    """The content of a file, as `inspect` finds it; ``print`` shows it as a table.

    Attributes
    ----------
    format : int
        Number of the format.
    versions : dict of str to str
        The versions of skuq, torch, scikit-learn, numpy and python that wrote the file.
    objects : dict of str to (str, dict)
        By place, the name of the class and the constructor's parameters, as text.
    modules : dict of str to str
        Names of the classes that `load` needs, and where they were defined.
    tensors : dict of str to (str, tuple of int)
        By place, dtype and shape.
    left_out : list of str
        Parameters that were not saved.
    n_bytes : int
        Size of the file.
    """

    format: int
    versions: dict[str, str]
    objects: dict[str, tuple[str, dict[str, str]]]
    modules: dict[str, str]
    tensors: dict[str, tuple[str, tuple[int, ...]]]
    left_out: list[str]
    n_bytes: int

    def __str__(self) -> str:
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        lines = [f"format {self.format}, {self.n_bytes} bytes, written by {versions}"]
        for place, (name, parameters) in self.objects.items():
            given = ", ".join(f"{key}={value}" for key, value in parameters.items())
            lines.append(f"{place or 'object'}: {name}({given})")
        lines += [f"needs module={name} (from {where})" for name, where in self.modules.items()]
        lines += [f"{place}: {dtype} {shape}" for place, (dtype, shape) in self.tensors.items()]
        lines += [f"left out: {note}" for note in self.left_out]
        # A file may hold any text, including commands to a terminal.
        return "\n".join(line.encode("unicode_escape").decode() for line in lines)


def inspect(path: StrPath) -> Contents:
    """Show the content of a file of `save`: builds nothing and does not need safetensors.

    Parameters
    ----------
    path : str or path-like
        The file to look into.

    Returns
    -------
    Contents
        A summary of the file; ``print`` shows it as a table.

    Raises
    ------
    PersistenceError
        If the file is damaged or does not come from `save`.

    Examples
    --------
    >>> import tempfile, os
    >>> from sklearn.datasets import load_iris
    >>> import skuq
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = skuq.TorchClassifier(max_epochs=5, random_state=0).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "iris.skuq")
    ...     skuq.save(classifier, path)
    ...     contents = skuq.inspect(path)
    >>> contents.objects[""][0], contents.tensors["module_.1.weight"]
    ('skuq.TorchClassifier', ('F32', (100, 4)))
    """
    parts = _container.read(path)
    manifest = manifest_of(parts)
    header = header_of(parts.tensors)
    objects, modules, tensors = {}, {}, {}
    for place, kind, node in _walk(manifest["object"], ""):
        if "class" in node:
            objects[place] = str(node["class"]), _parameters(node)
        elif kind in ("module", "trained"):
            modules[str(node.get("name"))] = str(node.get("defined_in"))
        elif str(node.get("tensor")) in header:
            dtype, stored = header[str(node["tensor"])]
            tensors[place] = dtype, usual_order(stored, node.get("order"))
    return Contents(
        format=manifest["format"],
        versions=dict(manifest["versions"]),
        objects=objects,
        modules=modules,
        tensors=tensors,
        left_out=list(manifest["left_out"]),
        n_bytes=os.path.getsize(path),
    )


# Keys between an object and its parts that only the manifest has.
_SILENT = {"state", "items", "module", "engine", "draws"}
_RENAMED = {"tensors": "module_", "weights": "module"}


def _walk(node: Any, place: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the typed values of a manifest and their places, outer values first."""
    if isinstance(node, list):
        for index, item in enumerate(node):
            yield from _walk(item, f"{place}[{index}]")
    elif isinstance(node, dict):
        typed = "$" in node
        if typed:
            yield place, str(node["$"]), node
        inside = typed or not _SILENT.isdisjoint(node)
        for key, item in node.items():
            if inside and key in _SILENT:
                yield from _walk(item, place)
            else:
                key = _RENAMED.get(key, key) if inside else key
                yield from _walk(item, f"{place}.{key}".lstrip("."))


def _parameters(node: dict[str, Any]) -> dict[str, str]:
    """Return attributes with names of parameters, as short text."""
    state = node.get("state")
    if not isinstance(state, dict):
        return {}
    plain = {k: v for k, v in state.items() if not k.startswith("_") and not k.endswith("_")}
    prefixed = state.get("_prefixed")
    more = prefixed if isinstance(prefixed, dict) else {}
    return {k: _text(v) for k, v in {**plain, **more}.items()}


def _text(node: Any) -> str:
    if isinstance(node, dict) and "$" in node:
        if "class" in node:
            return f"{node['class']}(...)"
        for key in ("name", "value", "items"):
            if key in node:
                return _text(node[key])
        return str(node["$"])
    if isinstance(node, list):
        return f"[{', '.join(map(_text, node[:10]))}]"[:_LONGEST]
    return repr(node)[:_LONGEST]
