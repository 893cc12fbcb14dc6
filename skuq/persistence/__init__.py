"""Fitted objects in files that hold no code: `save`, `load`, `inspect`.

A file is a zip of two parts, ``manifest.json`` and ``tensors.safetensors``, and their digests. It
can be opened by who does not trust where it comes from: it names no importable object, and nothing
of it is run. See ``docs/saving.md``.
"""

from skuq.persistence._inspect import Contents, inspect
from skuq.persistence._save import load, save

__all__ = ["Contents", "inspect", "load", "save"]
