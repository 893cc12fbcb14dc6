"""Fitted objects in files that hold no code: `save`, `load`, `inspect`.

A file is a zip of two parts, ``manifest.json`` and ``tensors.safetensors``, and their digests. You
can open it even if you do not trust its source: `load` imports nothing that the file names, and
runs nothing from it. `saved_as` lets files hold classes of your own. See ``docs/saving.md``.
"""

from skuq._utils._saved_names import saved_as
from skuq.persistence._inspect import Contents, inspect
from skuq.persistence._save import load, save

__all__ = ["Contents", "inspect", "load", "save", "saved_as"]
