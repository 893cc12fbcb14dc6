"""Optional dependencies: imported when they are used, with an error that says how to install."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

__all__ = ["import_optional"]


def import_optional(name: str, extra: str, feature: str) -> ModuleType:
    """Import module `name`, which the extra ``skuq[extra]`` installs, for `feature`."""
    if (
        known := sys.modules.get(name)
    ) is not None:  # so that code which loads files need not import
        return known
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"{feature} needs {name.partition('.')[0]}, which is not installed: "
            f"pip install 'skuq[{extra}]'"
        ) from error
