"""Losses for noisy labels, on Fashion-MNIST or on scikit-learn's digits.

    python -m benchmarks.label_noise [--data digits] [--seeds 2] [--rates 0,0.4] [--quick]

from the root of the repository. Each run (a loss, a rate and a seed) is written when it is done, to
a file of its own below --folder, with the fitted network beside it. Called again, the program makes
what is missing, so that an interrupted one goes on; all losses and rates of a seed come before the
next seed. Table and pictures are written after each seed, of the seeds that are complete.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import joblib

from benchmarks import label_noise_output as output
from benchmarks.harness import torch_threads
from benchmarks.label_noise_runs import (
    LOSSES,
    MOST_IMAGES,
    Experiment,
    Fitted,
    experiment,
    fit,
    measure,
    noisy_data,
    test_time_augmented,
)
from benchmarks.output import environment

LATEST = "pair_accuracy"  # what was measured last: records that lack it are of an earlier program
PACKAGES = ("skuq", "torch", "numpy", "scikit-learn", "skorch")


def command_line() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Losses for noisy labels, compared.")
    parser.add_argument("--data", choices=("fashion-mnist", "digits"), default="fashion-mnist")
    parser.add_argument("--quick", action="store_true", help="few images and epochs, one seed")
    parser.add_argument("--seeds", type=int, help="how many; by default 5, on a GPU or digits 10")
    parser.add_argument("--rates", default="0,0.2,0.4", help="of flipped labels, with commas")
    parser.add_argument("--losses", help="names with semicolons; all by default")
    parser.add_argument("--epochs", type=int, help="passes over the data")
    parser.add_argument("--images", type=int, help="to train on, as far as there are so many")
    parser.add_argument("--lr", type=float, help="learning rate, of every loss")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument(
        "--folder", type=Path, default=Path("benchmarks/output/label_noise"), help="for results"
    )
    parser.add_argument("--publish", type=Path, help="a folder for the table and the pictures")
    return parser


def chosen(options: argparse.Namespace) -> tuple[Experiment, list[float], list[str]]:
    """The experiment, the rates and the losses that were asked for."""
    small = {"images": 900, "epochs": 2, "seeds": 1} if options.quick else {}
    names = ("images", "epochs", "seeds", "lr")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if any(value <= 0 for value in given.values()):
        raise SystemExit(f"images, epochs, seeds and lr must be positive, got {given}")
    if "images" in given:
        given["images"] = min(given["images"], MOST_IMAGES[options.data])
    rates = [float(rate) for rate in options.rates.split(",")]
    losses = options.losses.split(";") if options.losses else list(LOSSES)
    unknown = [name for name in losses if name not in LOSSES]
    if unknown:
        raise SystemExit(f"there is no loss {unknown[0]!r}; there are {'; '.join(LOSSES)}")
    return dataclasses.replace(experiment(options.data), **{**small, **given}), rates, losses


def slug(loss: str, rate: float, seed: int) -> str:
    letters = "".join(c if c.isalnum() else "-" for c in loss.lower())
    return f"seed{seed}-rate{rate:g}-{letters}"


def stored(path: Path, of: Experiment) -> dict[str, Any] | None:
    """What a run left, if it was of the same settings."""
    if not path.exists():
        return None
    record = json.loads(path.read_text())
    return record if record["settings"] == of.settings() else None


def save(path: Path, record: dict[str, Any]) -> None:
    """In one step: an interrupted write leaves the old file."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(record, indent=1) + "\n")
    part.replace(path)


def run(of: Experiment, loss: str, rate: float, seed: int, folder: Path) -> dict[str, Any]:
    """A record of one network; what an earlier call measured is not measured again."""
    path = folder / f"{slug(loss, rate, seed)}.json"
    record, fitted = stored(path, of), None
    if record is None:
        fitted = fit(of, loss, rate, seed)
        record = {
            "settings": of.settings(),
            "loss": loss,
            "rate": rate,
            "seed": seed,
            "seconds": fitted.seconds,
            "device": fitted.model.device_,
            "history": [
                {name: row[name] for name in ("train_loss", *output.CURVES)}
                for row in fitted.model.history_
            ],
            "views": {"one": measure(fitted.model, fitted, of.pairs)},
        }
        joblib.dump(fitted.model, path.with_suffix(".joblib"))
        save(path, record)
    if LATEST not in record["views"]["one"] or "tta" not in record["views"]:
        _measure_later(of, record, fitted, path)
    return record


def _measure_later(
    of: Experiment, record: dict[str, Any], fitted: Fitted | None, path: Path
) -> None:
    """The same network with test-time augmentation, and what an earlier program did not measure."""
    model_path = path.with_suffix(".joblib")
    if fitted is None and model_path.exists():
        data, y_noisy, flipped, _ = noisy_data(of, record["rate"], record["seed"])
        fitted = Fitted(joblib.load(model_path), data, y_noisy, flipped, record["seconds"])
    if fitted is None:
        return
    if LATEST not in record["views"]["one"]:
        record["views"]["one"] = measure(fitted.model, fitted, of.pairs)
    views = None if "tta" in record["views"] else test_time_augmented(fitted)
    if views is not None:
        record["views"]["tta"] = measure(views, fitted, of.pairs)
    save(path, record)


def main(arguments: Sequence[str] | None = None) -> int:
    options = command_line().parse_args(arguments)
    of, rates, losses = chosen(options)
    folder = options.folder / of.name / f"{of.images}-images-{of.epochs}-epochs-lr{of.lr:g}"
    folder.mkdir(parents=True, exist_ok=True)
    records: list[dict[str, Any]] = []
    with torch_threads(options.threads):
        for seed in range(of.seeds):
            for rate in rates:
                for loss in losses:
                    record = run(of, loss, rate, seed, folder)
                    records.append(record)
                    print(output.told(record), flush=True)
            where = environment(PACKAGES, **of.settings())
            text = output.markdown(of.name, where, records)
            for target in filter(None, (folder, options.publish)):
                output.write(target, of.name, text, records)
    print("\n" + text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
