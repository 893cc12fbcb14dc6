"""Runs of the tables of quality: each is a file, and means over seeds have standard errors.

A table that was interrupted goes on where it stopped. ``SKUQ_RUNS`` is the folder of the files, by
default `benchmarks/output/quality`; ``SKUQ_DATA`` that of the data, by default `../shared/data`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.harness import torch_threads
from benchmarks.output import environment
from skuq.exceptions import DivergedError

__all__ = [
    "Scores",
    "command",
    "data_folder",
    "in_code",
    "of_run",
    "ratio",
    "runs_folder",
    "spread",
    "table",
    "versions",
]

Scores = dict[str, float]
PACKAGES = ("skuq", "torch", "scikit-learn", "skorch", "numpy")


def data_folder() -> Path:
    return Path(os.environ.get("SKUQ_DATA", Path(__file__).parents[2] / "shared" / "data"))


def runs_folder() -> Path:
    return Path(os.environ.get("SKUQ_RUNS", Path(__file__).parent / "output" / "quality"))


def of_run(path: Path, run: Callable[[], Scores]) -> Scores:
    """Read what a run has measured, or measure it; nothing if training diverges."""
    if path.exists():
        stored: Scores = json.loads(path.read_text())
        return stored
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that training has not converged, for example
        try:
            scores = run()
        except DivergedError:
            scores = {}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(scores))
    unfinished.replace(path)  # an interruption leaves no half of a file
    print(path.stem, {key: round(value, 3) for key, value in scores.items()}, flush=True)
    return scores


def spread(values: Iterable[float], digits: int = 3) -> str:
    """Return the mean with its standard error; "–" where a run has no such score."""
    found = np.array(list(values), dtype=float)
    if not len(found) or not np.isfinite(found).all():
        return "–"
    digits = digits if found.mean() < 100 else 0
    mean = f"{found.mean():.{digits}f}"
    error = found.std(ddof=1) / len(found) ** 0.5 if len(found) > 1 else np.nan
    return f"{mean} ± {error:.{digits}f}" if np.isfinite(error) else mean


def ratio(runs: Sequence[Scores], base: Sequence[Scores], score: str) -> str:
    """Return the median, over the seeds that both have, of a cost in units of another's."""
    both = [one[score] / other[score] for one, other in zip(runs, base)]
    return f"{np.median(both):.2g}" if both else "–"


def table(columns: Sequence[str], rows: Mapping[str, Sequence[str]], first: str = "") -> str:
    """Return Markdown."""
    lines = [f"| {first} | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows.items()]
    return "\n".join(lines) + "\n"


def in_code(name: str) -> str:
    """Set the classes in the name of a row as code."""
    return re.sub(r"\w+\([^)]*\)|ConcreteDropout", r"`\g<0>`", name)


def versions(packages: Sequence[str] = PACKAGES) -> str:
    """Return a sentence: when, on what and with which packages a table was made."""
    where: dict[str, Any] = environment(packages)
    where.pop("system")
    return ", ".join(f"{name} {value}" for name, value in where.items()) + "."


def command(
    make: Callable[[int, bool], str], n_seeds: int, arguments: Sequence[str] | None = None
) -> int:
    """Make a table by the command line, print it, publish it; return the exit status."""
    parser = argparse.ArgumentParser(description="A table of quality; see the program's head.")
    parser.add_argument("--seeds", type=int, default=n_seeds, help="of each row, or splits")
    parser.add_argument("--quick", action="store_true", help="hardly any training, to try it")
    parser.add_argument("--publish", type=Path, help="a file for the table")
    options = parser.parse_args(arguments)
    with torch_threads(1), threadpool_limits(1, user_api="blas"):
        text = make(options.seeds, options.quick)
    print(text)
    if options.publish:
        options.publish.parent.mkdir(parents=True, exist_ok=True)
        options.publish.write_text(text)
    return 0
