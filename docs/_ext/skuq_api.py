"""The pages of the API, one for each name in the ``__all__`` of a public room.

A new public name gets its page by itself: its docstring, and the examples that use it.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import skuq

# The rooms in the order in which a reader looks for them; others follow in the alphabet's.
FIRST = ["", "posteriors", "likelihoods", "modules", "calibration", "metrics", "uncertainty"]


def rooms() -> dict[str, ModuleType]:
    """Return the public modules of skuq by name, skuq itself first."""
    found = {"skuq": skuq}
    names = [m.name for m in pkgutil.iter_modules(skuq.__path__) if not m.name.startswith("_")]
    for name in sorted(names, key=lambda n: (FIRST.index(n) if n in FIRST else len(FIRST), n)):
        module = importlib.import_module(f"skuq.{name}")
        if hasattr(module, "__all__"):
            found[module.__name__] = module
    return found


def contents() -> dict[str, list[str]]:
    """Return the public names of each room; what two rooms offer belongs to the first."""
    seen: dict[int, str] = {}
    found: dict[str, list[str]] = {}
    for room, module in rooms().items():
        found[room] = []
        for name in module.__all__:
            thing = getattr(module, name)
            if name.startswith("__") or (id(thing) in seen and callable(thing)):
                continue
            seen[id(thing)] = f"{room}.{name}"
            found[room].append(name)
    return {room: names for room, names in found.items() if names}


def public_names() -> dict[str, str]:
    """Map the short and the full names of the API to the full ones; ambiguous ones are left out."""
    full: dict[str, set[str]] = {}
    for room, names in contents().items():
        for name in names:
            for key in {name, f"{room}.{name}", f"{room}.{name}".removeprefix("skuq.")}:
                full.setdefault(key, set()).add(f"{room}.{name}")
    for room, module in rooms().items():  # a second place of a thing leads to the first
        for name in module.__all__:
            if name in full and len(full[name]) == 1:
                full.setdefault(f"{room}.{name}", full[name])
    return {key: next(iter(targets)) for key, targets in full.items() if len(targets) == 1}


def title(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}\n"


def page_of(room: str, name: str) -> str:
    """Return the source of the page of one public name."""
    thing, full = getattr(rooms()[room], name), f"{room}.{name}"
    lines = [title(name, "="), f".. currentmodule:: {room}\n"]
    if inspect.isclass(thing):
        lines += [f".. autoclass:: {name}\n   :members:\n   :inherited-members:\n"]
    elif callable(thing) and inspect.isroutine(thing):
        lines += [f".. autofunction:: {name}\n"]
    else:
        lines += [f".. autodata:: {name}\n   :no-value:\n"]
    lines += [
        f".. minigallery:: {full}\n   :add-heading: Examples with {name}\n   :heading-level: -\n"
    ]
    return "\n".join(lines)


def page_of_room(room: str, names: list[str]) -> str:
    """Return the source of the page of a room: its docstring and a table of its names."""
    text = inspect.getdoc(rooms()[room]) or ""
    table = "\n".join(f"   {name}" for name in names)
    pages = "\n".join(f"   {room}.{name}" for name in names)
    return "\n".join([
        title(room, "="), text, "",
        f".. currentmodule:: {room}\n",
        f".. autosummary::\n   :nosignatures:\n\n{table}\n",
        f".. toctree::\n   :hidden:\n\n{pages}\n",
    ])  # fmt: skip


def write_pages(app: Any) -> None:
    """Write the sources of all pages of the API, and remove those of names that are gone."""
    folder = Path(app.srcdir) / "api"
    folder.mkdir(exist_ok=True)
    wanted = {}
    for room, names in contents().items():
        wanted[f"{room}.rst"] = page_of_room(room, names)
        wanted.update({f"{room}.{name}.rst": page_of(room, name) for name in names})
    listed = "\n".join(f"   {room}" for room in contents())
    wanted["index.rst"] = (
        title("API", "=") + "\nEverything public, by room; what is not here is private.\n\n"
        f".. toctree::\n   :maxdepth: 1\n\n{listed}\n"
    )
    for old in folder.glob("*.rst"):
        if old.name not in wanted:
            old.unlink()
    for name, text in wanted.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def skip_foreign(app: Any, what: str, name: str, thing: Any, skip: bool, options: Any) -> bool:
    """Leave out members that scikit-learn or Python gives, and fields of named tuples."""
    thing = inspect.unwrap(getattr(thing, "fget", thing) or thing)
    thing = getattr(thing, "fn", thing)
    module = getattr(thing, "__module__", None) or ""
    return skip or not module.startswith("skuq")


def escape(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Keep names such as ``classes_``, and bars of absolute values, from being read as reST."""
    for n, line in enumerate(lines):
        parts = re.split(r"(``.*?``|`.*?`)", line)
        if re.match(r"\s*(>>>|\.\.\.|\.\. )", line):
            continue
        for k in range(0, len(parts), 2):
            parts[k] = re.sub(r"(?<=\w)_(?=[^\w`]|$)", r"\\_", parts[k])
            parts[k] = re.sub(r"\|(?=\S)|(?<=\S)\|", r"\\|", parts[k])
            parts[k] = re.sub(r"(?<!\*)\*(?=shape of)", r"\\*", parts[k])
        lines[n] = "".join(parts)


def setup(app: Any) -> dict[str, Any]:
    app.connect("builder-inited", write_pages, priority=100)
    app.connect("autodoc-skip-member", skip_foreign)
    app.connect("autodoc-process-docstring", escape, priority=900)  # after numpydoc
    return {"parallel_read_safe": True}
