"""What makes images uncertain: methods of `skuq.attribution` side by side, and what they cost.

    python -m benchmarks.attribution [--data FOLDER] [--images fashion_mnist] [--half confirming]

The folder holds `images/fashion_mnist_{train,test}.npz` and `images/cifar10_jpeg_{train,test}.npz`;
by default it is $SKUQ_DATA, else `../shared/data`. A set that is not there is left out. Settings
were chosen on the "choosing" half, images of the training files that trained nothing, and the
published figures are those of the "confirming" half, images of the test files. Networks and results
are written to `benchmarks/output/attribution/` one by one, so the same command resumes.
`--publish docs/attribution` writes the tables there. The table "attribution-cost" of
`benchmarks.run` times the methods.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import os
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.harness import Bar, Report
from benchmarks.models import image_data
from skuq import TorchClassifier
from skuq.attribution import (
    attribute_uncertainty,
    iou,
    planted_regions,
    segment_ceiling,
    uncertainty_reduction,
)
from skuq.posteriors import MCDropout

OUTPUT = Path(__file__).parent / "output" / "attribution"
CORRUPTIONS = ("patch", "noise", "rectangle")
FILLS = ("blur", "mean", "inpaint")
SHARES = (0.02, 0.05)
SEGMENTED = {"segments": "slic"}
DEFAULT = "optimized, greedy"
# The order in which they run; tables have the order of `SHOWN`.
METHODS: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    "occlusion": {"method": "occlusion"},
    "KernelSHAP + segments": {"method": "kernel_shap"},
    "integrated gradients": {"method": "integrated_gradients"},
    "gradient": {"method": "gradient"},
    "SmoothGrad": {"method": "smoothgrad"},
    "ua_backprop (experimental)": {"method": "ua_backprop"},
    "occlusion + segments": {"method": "occlusion", **SEGMENTED},
    "optimized, Gumbel": {"optimizer": "gumbel"},
    "LIME + segments": {"method": "lime"},
    "optimized, greedy, blur": {"perturbation": "blur"},
    "KernelSHAP, squares": {"method": "kernel_shap", "segments": "grid"},
    "optimized, Gumbel, blur": {"optimizer": "gumbel", "perturbation": "blur"},
}
SHOWN = [
    "gradient", "SmoothGrad", "integrated gradients", "ua_backprop (experimental)",
    "occlusion", "occlusion + segments", "KernelSHAP, squares", "KernelSHAP + segments",
    "LIME + segments", "optimized, Gumbel, blur", "optimized, greedy, blur", "optimized, Gumbel",
    DEFAULT,
]  # fmt: skip
# CIFAR-10, from the poster of "Optimization-based Uncertainty Attribution via Learning Informative
# Perturbations", ECCV 2024: IoU and detection of corrupted regions, then the fall at 2 % and 5 %.
PUBLISHED = {
    "gradient": (0.109, 0.054, 0.343, 0.440),
    "SmoothGrad": (0.297, 0.226, 0.331, 0.418),
    "integrated gradients": (0.208, 0.152, 0.392, 0.481),
    "UA-Backprop": (0.271, 0.178, 0.374, 0.453),
    "KernelSHAP": (0.324, 0.306, 0.823, 0.902),
    "KernelSHAP + SAM": (0.676, 0.670, None, None),
    "LIME": (0.281, 0.258, 0.378, 0.355),
    "occlusion": (0.218, 0.160, 0.730, 0.786),
    "optimised": (0.713, 0.700, 0.860, 0.918),
}


def lenet() -> nn.Module:
    """LeNet5-like, with dropout in its head only."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Dropout(0.3),
        nn.Linear(120, 84), nn.ReLU(), nn.Dropout(0.3), nn.Linear(84, 10),
    )  # fmt: skip


def colour_net() -> nn.Module:
    """Three convolutions for 32 × 32 images in colour, and dropout in the head."""
    return nn.Sequential(
        nn.Conv2d(3, 12, 5, stride=2, padding=2), nn.ReLU(),
        nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(24, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Dropout(0.2), nn.Linear(512, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10),
    )  # fmt: skip


# The network, how many images train it, and for how many epochs.
SETS: dict[str, tuple[Any, int, int]] = {
    "fashion_mnist": (lenet, 30_000, 8),
    "cifar10_jpeg": (colour_net, 15_000, 8),
}


def images(folder: Path, name: str, part: str, which: slice) -> tuple[np.ndarray, np.ndarray]:
    """Images with values in [0, 1], of shape (n, n_channels, height, width), and labels."""
    with np.load(folder / f"{name}_{part}.npz") as file:
        y = file["y"].astype(int)[which]
        if "X" in file:
            return file["X"][which][:, None].astype(np.float32) / 255, y
        from PIL import Image

        data, offsets = file["jpeg"].tobytes(), file["offsets"]
        places = range(len(offsets) - 1)[which]
        decoded = [Image.open(io.BytesIO(data[offsets[i] : offsets[i + 1]])) for i in places]
    X = np.stack([np.asarray(image.convert("RGB")) for image in decoded])
    return X.transpose(0, 3, 1, 2).astype(np.float32) / 255, y


def network(folder: Path, name: str) -> TorchClassifier:
    """Train it once, and read it from the output folder afterwards."""
    path = OUTPUT / f"{name}.pickle"
    if path.exists():
        return pickle.loads(path.read_bytes())
    module, n_train, epochs = SETS[name]
    X, y = images(folder, name, "train", slice(n_train))
    start = time.perf_counter()
    fitted = TorchClassifier(
        module, posterior=MCDropout(n_draws=30), lr=2e-3, max_epochs=epochs, random_state=0
    ).fit(X, y)
    X, y = images(folder, name, "test", slice(2000))
    seconds = time.perf_counter() - start
    print(f"{name}: accuracy {fitted.score(X, y):.3f}, {seconds:.0f} s", flush=True)
    path.write_bytes(pickle.dumps(fitted))
    return fitted


# ---------------------------------------------------------------------------------------------
# The experiment


def subjects(folder: Path, name: str, half: str, n: int) -> dict[str, dict[str, np.ndarray]]:
    """Images to attribute, by the name of the task, with the regions where they are known."""
    fitted = network(folder, name)
    part, start = ("train", 40_000) if half == "choosing" else ("test", 0)
    X, _ = images(folder, name, part, slice(start, start + 7 * n))
    found: dict[str, dict[str, np.ndarray]] = {}
    for seed, corruption in enumerate(CORRUPTIONS):
        planted = planted_regions(fitted, X, corruption=corruption, random_state=seed)
        found[corruption] = {"X": planted.X[:n], "regions": planted.regions[:n]}
    X, _ = images(folder, name, part, slice(start + 7 * n, start + 17 * n))
    order = np.argsort(-fitted.predict_uncertainty(X), kind="stable")
    found["natural"] = {"X": X[np.sort(order[: len(X) // 10])]}
    return found


def judged(fitted: TorchClassifier, task: dict[str, np.ndarray], options: dict) -> dict[str, Any]:
    """Scores of one method on one task, image by image, with those of chance."""
    start = time.process_time()
    made = attribute_uncertainty(fitted, task["X"], **options)
    scores: dict[str, Any] = {"seconds": (time.process_time() - start) / len(task["X"])}
    if "regions" in task:
        overlap = iou(made, task["regions"])
        scores |= {"iou": overlap.iou.tolist(), "iou, chance": overlap.chance.tolist()}
        if made.segments is not None:
            scores["ceiling"] = segment_ceiling(made.segments, task["regions"]).tolist()
    for fill in FILLS:
        fall = uncertainty_reduction(fitted, task["X"], made, q=SHARES, fill=fill)
        for place, share in enumerate(SHARES):
            scores[f"{fill} {share:.0%}"] = fall.reduction[:, place].tolist()
            scores[f"{fill} {share:.0%}, chance"] = fall.chance[:, place].tolist()
    return scores


def run(folder: Path, name: str, half: str, n: int, methods: list[str]) -> dict[str, Any]:
    """All scores of one set, by method and task; those that a file holds are read from it."""
    path = OUTPUT / f"{name}_{half}_{n}.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    missing = [method for method in methods if method not in found]
    if missing:
        fitted, tasks = network(folder, name), subjects(folder, name, half, n)
        for method in missing:
            found[method] = {
                task: judged(fitted, one, METHODS[method]) for task, one in tasks.items()
            }
            path.write_text(json.dumps(found))
            print(f"{name}, {half}: {method}", flush=True)
    return found


# ---------------------------------------------------------------------------------------------
# Tables


def mean(values: list[float], digits: int = 3) -> str:
    """Mean ± standard error."""
    array = np.asarray(values)
    error = array.std(ddof=1) / np.sqrt(len(array)) if len(array) > 1 else np.nan
    return f"{array.mean():.{digits}f} ± {error:.{digits}f}"


def overlaps(found: dict[str, Any]) -> list[str]:
    """IoU and share of detected regions of each corruption, their means, and the ceiling."""
    heads = [f"{task}: IoU | found" for task in CORRUPTIONS]
    lines = [f"| method | {' | '.join(heads)} | mean IoU | mean found | ceiling |"]
    lines.append("|---" * 10 + "|")
    for method in (m for m in SHOWN if m in found):
        scores = [found[method][task] for task in CORRUPTIONS]
        each = [np.asarray(one["iou"]) for one in scores]
        cells = [f"{mean(one)} | {(one > 0.5).mean():.2f}" for one in each]
        hits = np.mean([(one > 0.5).mean() for one in each])
        ceiling = [np.mean(one["ceiling"]) for one in scores if "ceiling" in one]
        together = np.mean([one.mean() for one in each])
        cells += [f"{together:.3f}", f"{hits:.2f}", f"{np.mean(ceiling):.2f}" if ceiling else ""]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    some = found[DEFAULT]
    chance = [f"{np.mean(some[task]['iou, chance']):.3f} | 0.00" for task in CORRUPTIONS]
    together = np.mean([np.mean(some[task]["iou, chance"]) for task in CORRUPTIONS])
    return [*lines, f"| random pixels | {' | '.join(chance)} | {together:.3f} | 0.00 | |"]


def pooled(scores: dict[str, Any], tasks: tuple[str, ...], what: str) -> np.ndarray:
    return np.concatenate([scores[task][what] for task in tasks])


def falls(found: dict[str, Any]) -> list[str]:
    """Fall of the uncertainty on planted and natural images, by what fills repaired pixels."""
    columns = [
        (tasks, f"{fill} {share:.0%}")
        for tasks in (CORRUPTIONS, ("natural",))
        for fill in FILLS
        for share in SHARES
    ]
    heads = [f"{'planted' if len(tasks) > 1 else 'natural'}, {what}" for tasks, what in columns]
    lines = [f"| method | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for method in (m for m in SHOWN if m in found):
        cells = [mean(pooled(found[method], tasks, what)) for tasks, what in columns]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    some = found[DEFAULT]
    chance = [f"{pooled(some, tasks, f'{what}, chance').mean():.3f}" for tasks, what in columns]
    return [*lines, f"| random pixels | {' | '.join(chance)} |"]


def differences(found: dict[str, Any]) -> list[str]:
    """Paired differences of the default method to the others, by image."""
    columns = [
        (CORRUPTIONS, "iou"), (CORRUPTIONS, "blur 2%"), (CORRUPTIONS, "blur 5%"),
        (("natural",), "blur 2%"), (("natural",), "blur 5%"),
    ]  # fmt: skip
    heads = ["IoU", "planted, 2 %", "planted, 5 %", "natural, 2 %", "natural, 5 %"]
    lines = [f"| {DEFAULT}, minus | {' | '.join(heads)} | seconds per image |"]
    lines.append("|---" * 7 + "|")
    for method in (m for m in SHOWN if m in found):
        cells = [
            mean(pooled(found[DEFAULT], tasks, what) - pooled(found[method], tasks, what))
            for tasks, what in columns
        ]
        seconds = np.mean([found[method][task]["seconds"] for task in (*CORRUPTIONS, "natural")])
        lines.append(f"| {method} | {' | '.join(cells)} | {seconds:.3f} |")
    return lines


# The published name of a method.
ALIKE = {
    "gradient": "gradient", "SmoothGrad": "SmoothGrad", "occlusion": "occlusion",
    "integrated gradients": "integrated gradients", "ua_backprop (experimental)": "UA-Backprop",
    "KernelSHAP, squares": "KernelSHAP", "KernelSHAP + segments": "KernelSHAP + SAM",
    "LIME + segments": "LIME", "optimized, Gumbel, blur": "optimised",
}  # fmt: skip


def summary(sets: dict[str, dict[str, Any]]) -> list[str]:
    """Overlaps and falls of blurred pixels of all sets, beside the published figures."""
    heads = [
        f"{name}: {what}"
        for name in sets
        for what in ("IoU", "found", "planted 2 % / 5 %", "natural 2 % / 5 %")
    ]
    lines = [f"| method | {' | '.join(heads)} | published: IoU / found | 2 % / 5 % |"]
    lines.append("|---" * (len(heads) + 3) + "|")
    for method in SHOWN:
        cells = []
        for found in sets.values():
            if method not in found:
                cells += [""] * 4
                continue
            overlap = pooled(found[method], CORRUPTIONS, "iou")
            cells += [mean(list(overlap)), f"{(overlap > 0.5).mean():.2f}"]
            for tasks in (CORRUPTIONS, ("natural",)):
                two, five = (pooled(found[method], tasks, f"blur {q}%").mean() for q in (2, 5))
                cells.append(f"{two:.3f} / {five:.3f}")
        numbers = PUBLISHED.get(ALIKE.get(method, ""), (None,) * 4)
        texts = ["–" if number is None else f"{number:.3f}" for number in numbers]
        cells += [
            f"{one} / {two}" if one != "–" else "" for one, two in zip(texts[::2], texts[1::2])
        ]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return lines


def optimality(folder: Path, name: str, half: str, n: int) -> list[str]:
    """How often a search finds the best of all masks of about nine segments."""
    fitted, tasks = network(folder, name), subjects(folder, name, half, n)
    X = np.concatenate([tasks[task]["X"][: n // 2] for task in ("patch", "natural")])
    lines = ["| λ | search | best mask found | mean gap | empty masks |", "|---|---|---|---|---|"]
    for sparsity in (1.0, 3.0, 5.0):
        options = {"n_segments": 9, "sparsity": sparsity}

        def objective(found: Any, sparsity: float = sparsity) -> np.ndarray:
            area = found.mask.mean((1, 2))
            return found.refined_uncertainty / found.uncertainty + sparsity * area

        best = attribute_uncertainty(fitted, X, optimizer="exhaustive", **options)
        for optimizer in ("greedy", "gumbel"):
            found = attribute_uncertainty(fitted, X, optimizer=optimizer, **options)
            gap = objective(found) - objective(best)
            empty = (~best.mask.any((1, 2))).mean()
            lines.append(
                f"| {sparsity:g} | {optimizer} | {(gap < 1e-6).mean():.0%} | {gap.mean():.4f} | "
                f"{empty:.0%} |"
            )
    return lines


# ---------------------------------------------------------------------------------------------
# Cost, a table of `benchmarks.run`


def cost(report: Report) -> None:
    """Seconds of methods on images of 28 × 28, LeNet5-like with dropout in its head, 30 draws."""
    table = "attribution-cost"
    if importlib.util.find_spec("captum") is None or importlib.util.find_spec("skimage") is None:
        report.remark(table, "unmeasured: captum and scikit-image are not installed")
        return
    X, y = image_data(report.sized(2000, 200))
    fitted = TorchClassifier(
        lenet, posterior=MCDropout(n_draws=30), max_epochs=report.sized(3, 1), random_state=0
    ).fit(X, y)
    n = report.sized(8, 2)
    some = X[np.argsort(-fitted.predict_uncertainty(X), kind="stable")[:n]]

    def timed(**options: Any) -> Any:
        return lambda: attribute_uncertainty(fitted, some, **options)

    contenders = {
        "KernelSHAP, 600 evaluations": timed(method="kernel_shap", n_samples=600),
        "optimized, greedy": timed(),
        "optimized, Gumbel": timed(optimizer="gumbel"),
        "occlusion": timed(method="occlusion"),
        "integrated gradients": timed(method="integrated_gradients"),
    }
    bars = [Bar(name, "KernelSHAP, 600 evaluations", 5.0) for name in list(contenders)[1:3]]
    report.time(table, contenders, bars)
    for line in [one for one in report.lines if one.table == table]:
        if line.contender.startswith("optimized"):
            report.seconds(table, f"{line.contender}, an image", (line.amount / n,) * 3, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("SKUQ_DATA", Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--images", choices=SETS, help="one of the sets; both by default")
    parser.add_argument("--half", choices=("choosing", "confirming"), default="confirming")
    parser.add_argument("--n", type=int, default=100, help="images of each task, at most")
    parser.add_argument("--methods", help="names with semicolons, to leave the others for later")
    parser.add_argument(
        "--optimality", action="store_true", help="only compare searches with all masks"
    )
    parser.add_argument("--report", action="store_true", help="run nothing, print what is there")
    parser.add_argument("--publish", type=Path, help="folder for the tables")
    options = parser.parse_args()
    torch.set_num_threads(1)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    methods = options.methods.split(";") if options.methods else list(METHODS)
    if options.report:
        methods = []
    text: list[str] = []
    sets: dict[str, dict[str, Any]] = {}
    for name in [options.images] if options.images else list(SETS):
        if not (options.data / "images" / f"{name}_test.npz").exists():
            print(f"{name} is not in {options.data}: left out")
            continue
        if options.optimality:
            text += optimality(options.data / "images", name, options.half, options.n)
            continue
        found = run(options.data / "images", name, options.half, options.n, methods)
        sets[name] = found
        for made in (overlaps(found), falls(found), differences(found)):
            text += [f"**{name}**", "", *made, ""]
    if sets:
        text = ["**beside the published figures of CIFAR-10**", "", *summary(sets), "", *text]
    print("\n".join(text))
    if options.publish and not options.optimality:
        options.publish.mkdir(parents=True, exist_ok=True)
        page = "\n".join(["# Attribution, measured", "", *text]) + "\n"
        (options.publish / "measured.md").write_text(page)


if __name__ == "__main__":
    main()
