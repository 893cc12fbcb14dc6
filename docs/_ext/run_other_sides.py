"""Run both sides of docs/coming_from.md and print what they give, the other package first.

``make other-sides``; no part of CI. A left side without its package does not run.
"""

import io
import os
import re
import sys
import tempfile
import types
from contextlib import redirect_stdout
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[1] / "coming_from.md"
OPERATORS = "torchvision._meta_registrations"  # benchmarks/README.md says why it is replaced
sys.modules[OPERATORS] = types.ModuleType(OPERATORS)
os.environ.setdefault("KERAS_BACKEND", "torch")


def code(text: str, mark: str) -> str:
    return "\n".join(re.findall(rf"^```{mark}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


def figures(value: Any, y: Any) -> str:
    """Shape and accuracy of labels or of probabilities, shape and mean of anything else."""
    array = value.detach().numpy() if hasattr(value, "detach") else value
    labels = array.argmax(1) if array.shape == (len(y), 10) else array
    if labels.shape == y.shape and labels.dtype.kind == "i":
        return f"{array.shape} accuracy {(labels == y).mean():.3f}"
    return f"{array.shape} mean {array.mean():.3f}"


def main() -> bool:
    start, *sections = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)
    os.chdir(tempfile.mkdtemp())  # for the files that trainers leave
    failed, left, distributions = False, {}, packages_distributions()
    exec(code(start, "python") + code(start, "py"), left)
    right = dict(left)
    for title, text in (section.split("\n", 1) for section in sections):
        theirs, ours = (compile(code(text, mark), title, "exec") for mark in ("py", "python"))
        modules = {name.split(".")[0] for name in theirs.co_names} & set(distributions)
        print(title, *(f"{name} {version(distributions[name][0])}" for name in sorted(modules)))
        try:
            with redirect_stdout(io.StringIO()):
                exec(ours, right)
                exec(theirs, left)
            for name in ("proba", "labels", "draws", "epistemic", "mean", "std"):
                if name in theirs.co_names and name in ours.co_names:
                    print(f"    {name}", *(figures(s[name], s["y_test"]) for s in (left, right)))
        except Exception as error:
            failed |= not isinstance(error, ModuleNotFoundError)
            print(f"    did not run: {error!r}")
    return failed


sys.exit(main())
