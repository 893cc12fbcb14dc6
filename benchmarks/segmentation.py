"""Segmentation of CamVid's street scenes: how good are the maps, and what do they cost?

    python -m benchmarks.segmentation [--part quality|peers|cost|loss|memory] [--stride 2]

from the root of the repository. It reads `camvid/camvid_180x240_{train,test}.npz` (arrays `X` and
`Y`, 11 classes, 11 is void) in $SKUQ_DATA, by default ../shared/data; without them it says so and
ends. --stride 2 takes every second pixel of a mask and means of 2 × 2 pixels of an image.

"quality" trains a network for each seed and scores it with MC dropout and in one pass, by one
stream over the test images; it keeps networks and scores below --folder and goes on there. "peers"
scores the maps of other packages, from the same networks. "cost" predicts with an untrained network
beside loops over plain torch and, where they are installed, torch-uncertainty and lightning-uq-box,
in turns in one process. "loss" times StochasticLogits beside a step of the network, and "memory" is
the peak of a process that predicts 20 images; they need no data.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from benchmarks.harness import check, measure, ratio, torch_threads
from benchmarks.segmentation_peers import installed
from benchmarks.segmentation_quality import VOID, Images, against_peers, borders, quality
from skuq import TorchSegmenter
from skuq._data._places import places_as_rows
from skuq.likelihoods import StochasticLogits
from skuq.modules import UNet
from skuq.posteriors import MCDropout

__all__ = ["VOID", "borders", "camvid", "main"]

N_CLASSES = 11
OUTPUT = Path(__file__).parent / "output" / "camvid"
FOLDER = Path(os.environ.get("SKUQ_DATA", "../shared/data")) / "camvid"


def camvid(part: str, stride: int) -> Images:
    """Read images, on the scale 0 … 1, and masks."""
    with np.load(FOLDER / f"camvid_180x240_{part}.npz") as stored:
        X, y = stored["X"], stored["Y"]
    n, high, wide = y.shape
    high, wide = high // stride, wide // stride
    blocks = X[:, : high * stride, : wide * stride].reshape(n, high, stride, wide, stride, 3)
    small = blocks.mean(axis=(2, 4), dtype=np.float32) / 255
    masks = y[:, : high * stride : stride, : wide * stride : stride]
    return Images(np.ascontiguousarray(small.transpose(0, 3, 1, 2)), masks.astype(np.int64))


def standardised(train: Images, test: Images) -> tuple[Images, Images]:
    mean = train.X.mean(axis=(0, 2, 3), keepdims=True)
    std = train.X.std(axis=(0, 2, 3), keepdims=True)
    return tuple(Images((one.X - mean) / std, one.y) for one in (train, test))  # type: ignore[return-value]


# ---------------------------------------------------------------------------------------------
# Cost


def plain_loop(module: torch.nn.Module, n_draws: int) -> Callable[[np.ndarray], Any]:
    """Make the loop written by hand: forwards with dropout on, sums of p and of the entropies."""
    module.eval()
    for layer in module.modules():
        if isinstance(layer, torch.nn.Dropout | torch.nn.Dropout2d):
            layer.train()

    def predict(X: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        results = []
        with torch.inference_mode():
            for image in torch.as_tensor(X).split(1):
                mean, entropy = torch.zeros(()), torch.zeros(())
                for _ in range(n_draws):
                    logs = module(image).log_softmax(1)
                    mean = mean + logs.exp()
                    entropy = entropy - (logs.exp() * logs).sum(1)
                mean, entropy = mean / n_draws, entropy / n_draws
                total = -(mean * mean.clamp_min(1e-30).log()).sum(1)
                results.append((total, entropy, total - entropy))
        return tuple(torch.cat(part).numpy() for part in zip(*results))  # type: ignore[return-value]

    return predict


def cost(images: Images, options: argparse.Namespace) -> dict[str, Any]:
    """Time maps of uncertainty from all draws, for dropout in the last block and everywhere."""
    found: dict[str, Any] = {}
    X, peers = images.X[: options.timed], installed()
    for where, blocks in (("last block", 1), ("every block", 7)):
        segmenter = untrained(images, blocks, options.draws)
        network, loop = segmenter.module_, plain_loop(segmenter.module_, options.draws)
        contenders: dict[str, Callable[[], Any]] = {
            "plain loop": lambda loop=loop: loop(X),
            "skuq": lambda segmenter=segmenter: segmenter.predict_uncertainty(X, kind="all"),
        }
        for name, adapter in peers.items():
            predict = adapter(network, options.draws)
            contenders[name] = lambda predict=predict: predict(X)
        for name, contender in contenders.items():  # other masks, the same law
            totals = [np.mean(one()[0]) for one in (contenders["plain loop"], contender)]
            check(f"{name}: mean total uncertainty, dropout in the {where}", *totals, 0.05)
        times = measure(contenders, options.repeats)
        for name, seconds in times.items():
            found[f"{where}: {name}"] = {
                "seconds": float(np.median(seconds)),
                "of the plain loop": ratio(seconds, times["plain loop"]),
            }
            print(where, name, found[f"{where}: {name}"], flush=True)
    return found


def loss(options: argparse.Namespace) -> dict[str, Any]:
    """Time the loss of noisy logits, with its gradient, beside a step of the network without it."""
    n, high, wide = (1, 24, 32) if options.quick else (4, 180, 240)
    generator = np.random.default_rng(0)
    X = torch.as_tensor(generator.normal(size=(n, 3, high, wide)).astype(np.float32))
    y = torch.as_tensor(generator.integers(N_CLASSES, size=n * high * wide))
    likelihood = StochasticLogits().fit(np.arange(N_CLASSES), n_classes=N_CLASSES)
    torch.manual_seed(0)
    network = UNet(3, likelihood.n_outputs_).to(memory_format=torch.channels_last)
    X = X.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        outputs = places_as_rows(network(X)[None])[0].contiguous()
    outputs.requires_grad_()
    contenders = {
        "step of the network": lambda: network(X).mean().backward(),
        "StochasticLogits": lambda: likelihood.loss(outputs, y).mean().backward(),
        "cross-entropy": lambda: cross_entropy(outputs[:, :N_CLASSES], y).backward(),
    }
    times = measure(contenders, options.repeats)
    base = times["step of the network"]
    return {name: ratio(seconds, base) for name, seconds in times.items()}


def memory(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the peak of processes that predict maps of 20 images of 180 × 240 pixels."""
    found: dict[str, Any] = {}
    context = multiprocessing.get_context("spawn")
    shape = (2, 3, 24, 32) if options.quick else (20, 3, 180, 240)
    for where, blocks in (("last block", 1), ("every block", 7)):
        with context.Pool(1) as process:
            found[f"{where}: MiB at the peak"] = process.apply(
                _peak, (shape, blocks, options.draws)
            )
        print(where, found[f"{where}: MiB at the peak"], flush=True)
    return found


def _peak(shape: tuple[int, ...], blocks: int, n_draws: int) -> dict[str, float]:
    torch.set_num_threads(1)
    images = Images(np.random.default_rng(0).random(shape, dtype=np.float32), np.empty(0))
    found = {"imports and images": _resident()}
    segmenter = untrained(images, blocks, n_draws)
    found["fit"] = _resident()
    segmenter.predict_uncertainty(images.X, kind="all")
    return {**found, "prediction": _resident()}


def _resident() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def untrained(images: Images, blocks: int, n_draws: int) -> TorchSegmenter:
    torch.manual_seed(0)
    network = UNet(3, N_CLASSES, dropout_blocks=blocks)
    y = np.resize(np.arange(N_CLASSES), (2, *images.X.shape[2:]))
    return TorchSegmenter(
        lambda: network, posterior=MCDropout(n_draws), max_epochs=0, random_state=0
    ).fit(images.X[:2], y)


# ---------------------------------------------------------------------------------------------


def on_camvid(options: argparse.Namespace) -> dict[str, Any]:
    if not (FOLDER / "camvid_180x240_train.npz").exists():
        sys.exit(f"not run: there is no CamVid in {FOLDER}; SKUQ_DATA names the folder above it")
    train, test = standardised(camvid("train", options.stride), camvid("test", options.stride))
    train, test = some_of(train, options.images), some_of(test, options.tested)
    if options.part == "peers":
        return against_peers(train, some_of(test, options.timed), options)
    return quality(train, test, options) if options.part == "quality" else cost(test, options)


def some_of(images: Images, n_images: int) -> Images:
    rows = np.linspace(0, len(images.X) - 1, n_images).round().astype(int)
    return Images(images.X[rows], images.y[rows])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--part", choices=("quality", "peers", "cost", "loss", "memory"), default="quality"
    )
    parser.add_argument("--stride", type=int, default=1, help="of the pixels that are taken")
    parser.add_argument("--images", type=int, default=367, help="training images")
    parser.add_argument("--tested", type=int, default=233, help="test images")
    parser.add_argument("--seeds", type=int, default=1, help="networks to train")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--precision", default="float32", help="of training and its predictions")
    parser.add_argument("--folder", type=Path, default=OUTPUT, help="of networks and their scores")
    parser.add_argument("--draws", type=int, default=30)
    parser.add_argument("--weights", help="rule of pixel_weight, such as median_frequency")
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument(
        "--timed", type=int, default=4, help="images that other packages predict, too"
    )
    parser.add_argument("--repeats", type=int, default=3, help="turns of a timing")
    parser.add_argument("--quick", action="store_true", help="few images, to try the program")
    parser.add_argument("--verbose", action="store_true", help="print every epoch")
    parser.add_argument("--json", type=Path, help="a file for the numbers")
    options = parser.parse_args(arguments)
    if options.quick:
        options.images, options.tested, options.epochs, options.draws = 8, 4, 1, 3
        options.stride, options.timed, options.repeats = 4, 2, 1
    with torch_threads(1):
        found = {"memory": memory, "loss": loss}.get(options.part, on_camvid)(options)
    text = json.dumps({"options": {k: str(v) for k, v in vars(options).items()}, **found}, indent=1)
    print(text)
    if options.json is not None:
        options.json.write_text(text)


if __name__ == "__main__":
    main()
