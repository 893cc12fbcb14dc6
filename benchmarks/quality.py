"""All tables of quality, each by a command of its own.

    python -m benchmarks.quality [--only tables,images] [--skip attribution] [--list]

Every program keeps its runs, so what was interrupted goes on. A table is printed when it is done; a
failure ends its own table only. `SKUQ_DATA` is the folder of the data.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.run import chosen

__all__ = ["TABLES", "Table", "main"]


class Table(NamedTuple):
    """A table of quality.

    Attributes
    ----------
    what : str
    page : str
        That shows it, in `docs/`.
    command : str
        Module of `benchmarks` and its arguments.
    """

    what: str
    page: str
    command: str


TABLES: dict[str, Table] = {
    "tables": Table(
        "every posterior, the defaults, boosting, NGBoost, CatBoost, Gaussian process: UCI",
        "quality",
        "quality_tables --publish docs/quality/tables.md",
    ),
    "dropout": Table(
        "MC dropout by its published grid: UCI",
        "quality",
        "quality_dropout --publish docs/quality/dropout.md",
    ),
    "images": Table(
        "every posterior, before and after temperature scaling: Fashion-MNIST",
        "quality",
        "quality_images --publish docs/quality/images.md",
    ),
    "posteriors": Table(
        "every posterior where data are few: digits, 1,000 images, three tables, a curve",
        "posteriors",
        "run --only which",
    ),
    "defaults-choosing": Table(
        "the defaults beside other packages: the tables on which they were chosen",
        "defaults",
        "defaults --half choosing",
    ),
    "defaults": Table(
        "the defaults beside other packages: the other half of the tables",
        "defaults",
        "defaults --half confirming",
    ),
    "calibration": Table(
        "calibrators on the outputs of ten public networks, and of six other classifiers",
        "calibration",
        "calibration_outputs --publish docs/calibration",
    ),
    "refusals": Table("coverage of certified refusals on public networks", "refusals", "selective"),
    "novelty": Table(
        "novelty on Fashion-MNIST, digits and a table",
        "novelty",
        "novelty --no-speed --publish docs/novelty",
    ),
    "shift": Table("corrupted images of Fashion-MNIST", "shift", "shift --publish docs/shift"),
    "label-noise": Table(
        "losses on wrong labels of Fashion-MNIST",
        "label_noise",
        "label_noise --publish docs/label_noise",
    ),
    "label-smoothing": Table("label smoothing on digits", "label_smoothing", "label_smoothing"),
    "label-smoothing-images": Table(
        "label smoothing on Fashion-MNIST",
        "label_smoothing",
        "label_smoothing --data fashion-mnist",
    ),
    "human-labels": Table(
        "disagreement of people, and of networks, on CIFAR-10", "human_labels", "human_labels"
    ),
    "few-labels": Table(
        "mean teacher and self-training with few labels", "semi_supervised", "semi_supervised"
    ),
    "active-learning": Table(
        "queries beside random ones on seven tasks",
        "active_learning",
        "active_learning --publish docs/active_learning",
    ),
    "attribution": Table(
        "what makes an image uncertain: Fashion-MNIST and CIFAR-10",
        "attribution",
        "attribution --publish docs/attribution",
    ),
    "shapes": Table(
        "directions that segmentation should show: synthetic shapes",
        "segmentation",
        "segmentation_shapes --publish docs/segmentation",
    ),
    "camvid": Table(
        "segmentation of road scenes: CamVid",
        "segmentation",
        "segmentation --part quality --seeds 3 --epochs 20 --batch-size 4 --draws 20 "
        "--precision bfloat16",
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen tables, one after another; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", help="names with commas, or beginnings of them")
    parser.add_argument("--skip", help="what to leave out, in the same way")
    parser.add_argument("--list", action="store_true", help="print the commands, run nothing")
    options = parser.parse_args(arguments)
    names = chosen(list(TABLES), options.only) if options.only is not None else list(TABLES)
    left_out = chosen(list(TABLES), options.skip) if options.skip else []
    failed = False
    for name in names:
        if name in left_out:
            continue
        command = f"python -m benchmarks.{TABLES[name].command}"
        print(f"== {name}: {command}", flush=True)
        if not options.list:
            start = time.perf_counter()
            status = subprocess.call([sys.executable, *shlex.split(command)[1:]])
            print(f"== {name}: {(time.perf_counter() - start) / 60:.1f} minutes", flush=True)
            failed |= status != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
