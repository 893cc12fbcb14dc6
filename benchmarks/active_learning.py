"""Which query to trust: simulated active learning on five kinds of tasks.

    python -m benchmarks.active_learning --task digits [--seeds 10] [--publish docs/active_learning]

Tasks are digits (also digits-ensemble), kin8nm, energy, naval, fashion (20 to 500 labelled images
with a small conv net) and key-points (heat maps of synthetic figures). UCI tables and images are
read from $SKUQ_DATA, by default `../shared/data`. Each simulation is a file below
`benchmarks/output/active_learning/`, so the same command resumes, and one with more seeds adds
seeds. `--report` prints the tables of what has run. Settings were chosen before the seeds ran;
seeds from 1000 are for trying.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import make_scorer
from sklearn.preprocessing import StandardScaler
from torch import nn

from benchmarks.output import environment
from skuq import TorchClassifier, TorchRegressor
from skuq.active_learning import ActiveLearner, QueryComparison, multi_peak_entropy
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate

OUTPUT = Path(__file__).parent / "output" / "active_learning"
DATA = Path(os.environ.get("SKUQ_DATA", Path(__file__).parents[2] / "shared" / "data"))
OF_CLASSES = ("random", "margin", "core_set", "badge", "entropy", "bald", "egl", "egl_plus_plus")
OF_NUMBERS = ("random", "core_set", "egl", "model_change", "egl_plus_plus")


class Task(NamedTuple):
    """Data, an estimator, and the size of the rounds."""

    split: Callable[[int], tuple[np.ndarray, ...]]  # seed -> X, y, X_test, y_test
    estimator: Any
    strategies: tuple[str, ...]
    initial: int
    batch_size: int
    n_rounds: int
    scoring: Any = None


# -- data -------------------------------------------------------------------------------------


def digits(seed: int) -> tuple[np.ndarray, ...]:
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(X))
    X, y = (X[order] / 16).astype(np.float32), y[order]
    return X[:1200], y[:1200], X[1200:], y[1200:]


def table(name: str, seed: int) -> tuple[np.ndarray, ...]:
    """At most 3,000 rows to choose from, and as many others to test on, all standardised."""
    with np.load(DATA / "uci" / f"{name}.npz") as file:
        X, y = file["X"], file["y"]
    order = np.random.default_rng(seed).permutation(len(X))
    n = min(3000, 2 * len(X) // 3)
    train, test = order[:n], order[n : n + 3000]
    rows, target = StandardScaler().fit(X[train]), StandardScaler().fit(y[train][:, None])
    X = rows.transform(X).astype(np.float32)
    y = target.transform(y[:, None])[:, 0]
    return X[train], y[train], X[test], y[test]


def fashion(seed: int) -> tuple[np.ndarray, ...]:
    found = []
    for name, n in (("train", 4000), ("test", 2000)):
        with np.load(DATA / "images" / f"fashion_mnist_{name}.npz") as file:
            some = np.random.default_rng(seed).permutation(len(file["X"]))[:n]
            X, y = file["X"][some], file["y"][some]
        found += [X[:, None].astype(np.float32) / 255, y.astype(int)]
    return tuple(found)


SIDE, MAP = 24, 12  # pixels of images and of heat maps
JOINTS = 3


def figures(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw figures of three joints: images, heat maps (flat), and places of the joints.

    A head, a hand and a foot are a disc, a square and a cross. Most figures stand upright near the
    middle, one in five lies anywhere; images have noise and up to two blots like heads.
    """
    random = np.random.default_rng(seed)
    centre = np.full((n, 2), SIDE / 2) + random.normal(0, 1.5, (n, 2))
    offsets = np.array([[-7.0, 0.0], [0.0, 6.0], [7.0, 0.0]]) + random.normal(0, 1.0, (n, 3, 2))
    angle = np.where(random.random(n) < 0.2, random.uniform(0, 2 * np.pi, n), 0.0)
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], 1)
    places = centre[:, None] + offsets @ turn.reshape(n, 2, 2).transpose(0, 2, 1)
    places = places.clip(1.5, SIDE - 2.5)
    row, column = np.mgrid[:SIDE, :SIDE]
    images = random.normal(0, 0.15, (n, SIDE, SIDE))

    def apart(at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return row - at[:, :1, None], column - at[:, 1:, None]

    dy, dx = apart(places[:, 0])
    images += dy**2 + dx**2 < 4
    dy, dx = apart(places[:, 1])
    images += np.maximum(abs(dy), abs(dx)) < 1.6
    dy, dx = apart(places[:, 2])
    images += np.minimum(abs(dy), abs(dx)) < 0.6 * ((abs(dy) < 2.6) & (abs(dx) < 2.6))
    for _ in range(2):
        dy, dx = apart(random.uniform(2, SIDE - 2, (n, 2)))
        images += (random.random(n) < 0.4)[:, None, None] * 0.8 * (dy**2 + dx**2 < 4)
    row, column = np.mgrid[:MAP, :MAP]
    small = places / (SIDE / MAP)
    squared = (row - small[..., :1, None]) ** 2 + (column - small[..., 1:, None]) ** 2
    maps = np.exp(-squared / 2)
    return images[:, None].astype(np.float32), maps.reshape(n, -1), places


def key_points(seed: int) -> tuple[np.ndarray, ...]:
    X, y, _ = figures(1500, 2 * seed)
    X_test, y_test, _ = figures(1000, 2 * seed + 1)
    return X, y, X_test, y_test


def found_share(y: np.ndarray, predicted: np.ndarray) -> float:
    """Share of joints whose highest pixel is at most one pixel of the map from the true one."""

    def peaks(maps: np.ndarray) -> np.ndarray:
        top = maps.reshape(len(maps), JOINTS, -1).argmax(axis=2)
        return np.stack([top // MAP, top % MAP], axis=-1)

    apart = np.abs(peaks(y) - peaks(predicted)).max(axis=-1)
    return float((apart <= 1).mean())


# -- networks ---------------------------------------------------------------------------------


def small_conv_net(n_outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=2, padding=2), nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(16 * 49, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, n_outputs),
    )  # fmt: skip


def heat_map_net(n_outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 12, 5, stride=2, padding=2), nn.ReLU(),
        nn.Conv2d(12, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(16 * 36, 64), nn.ReLU(), nn.Linear(64, n_outputs),
    )  # fmt: skip


def learning_from(posterior: Any, **options: Any) -> dict[str, Any]:
    common = {"posterior": posterior, "early_stopping": False, "batch_size": 64, "lr": 5e-3}
    return {**common, "device": "cpu", **options}


def classifier(posterior: Any) -> TorchClassifier:
    return TorchClassifier(
        **learning_from(posterior, max_epochs=80, module__hidden_layer_sizes=(64,))
    )


def regressor() -> TorchRegressor:
    options = {"max_epochs": 80, "module__hidden_layer_sizes": (50,)}
    return TorchRegressor(**learning_from(DeepEnsemble(5), **options))


def on_table(name: str, initial: int = 50, batch_size: int = 50, n_rounds: int = 6) -> Task:
    scoring = "neg_root_mean_squared_error"
    return Task(
        partial(table, name), regressor(), OF_NUMBERS, initial, batch_size, n_rounds, scoring
    )


TASKS = {
    "digits": Task(digits, classifier(MCDropout(20)), OF_CLASSES, 20, 10, 15),
    "digits-ensemble": Task(digits, classifier(DeepEnsemble(5)), OF_CLASSES, 20, 10, 15),
    "kin8nm": on_table("kin8nm"),
    "energy": on_table("energy", 20, 20, 6),
    "naval": on_table("naval-propulsion-plant"),
    "fashion": Task(
        fashion,
        TorchClassifier(small_conv_net, **learning_from(MCDropout(20), max_epochs=30)),
        ("random", "margin", "core_set", "badge", "egl"),
        20, 80, 6,
    ),
    "key-points": Task(
        key_points,
        TorchRegressor(
            heat_map_net, **learning_from(PointEstimate(), max_epochs=30)
        ),
        ("random", "core_set", "multi_peak", "egl_plus_plus"),
        100, 60, 5, make_scorer(found_share),
    ),
}  # fmt: skip
CALLABLES = {"multi_peak": partial(multi_peak_entropy, map_shape=(JOINTS, MAP, MAP))}
NAMES = {
    "digits": "digits, dropout", "digits-ensemble": "digits, ensemble",
    "fashion": "Fashion-MNIST", "key-points": "key points",
}  # fmt: skip


# -- running ----------------------------------------------------------------------------------


def path_of(task: str, strategy: str, seed: int) -> Path:
    return OUTPUT / f"{task}_{strategy}_{seed}.json"


def simulate(name: str, strategy: str, seed: int) -> None:
    """Run one simulation, unless its file is there."""
    path, task = path_of(name, strategy, seed), TASKS[name]
    if path.exists():
        return
    start = time.perf_counter()
    learner = ActiveLearner(
        task.estimator, CALLABLES.get(strategy, strategy), batch_size=task.batch_size,
        n_rounds=task.n_rounds, initial=task.initial, scoring=task.scoring, random_state=seed,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        learner.simulate(*task.split(seed))
    path.write_text(json.dumps({"rounds": learner.rounds_}))
    print(f"{name} {strategy} {seed}: {learner.area_under_curve_:.4f}, "
          f"{time.perf_counter() - start:.0f} s", flush=True)  # fmt: skip


def results(name: str) -> QueryComparison | None:
    """What has run for all strategies of a task."""
    strategies = TASKS[name].strategies
    seeds = [k for k in range(1000) if all(path_of(name, s, k).exists() for s in strategies)]
    if not seeds:
        return None
    rounds = {
        s: [json.loads(path_of(name, s, k).read_text())["rounds"] for k in seeds]
        for s in strategies
    }
    n_labelled = [r["n_labelled"] for r in rounds["random"][0]]
    return QueryComparison(
        n_labelled, {s: [[r["score"] for r in run] for run in runs] for s, runs in rounds.items()}
    )


def markdown(name: str, found: QueryComparison) -> str:
    """The table of a task: areas, differences to random, p values by Holm, both ends."""
    summary, ends = found.summary(), found.scores
    n_seeds = len(found.areas["random"])
    first, last = found.n_labelled[[0, -1]]
    lines = [
        f"## {NAMES.get(name, name)}: {first} to {last} labels, {n_seeds} seeds", "",
        "| query | area | − random | p better | p worse | last round |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for strategy, line in summary.sort_values("area", ascending=False).iterrows():
        apart = p = q = "–"
        if strategy != "random":
            apart = f"{line.difference:+.4f} ± {line.standard_error:.4f}"
            p, q = f"{line.p_better_holm:.3f}", f"{line.p_worse_holm:.3f}"
        end = ends[strategy][:, -1].mean()
        lines.append(f"| {strategy} | {line.area:.4f} | {apart} | {p} | {q} | {end:.4f} |")
    return "\n".join(lines) + "\n"


def overview(found: dict[str, QueryComparison]) -> str:
    """One table of all tasks: differences to random, and the verdicts by Holm at level 0.1."""
    heads = [
        f"{NAMES.get(name, name)} ({len(r.areas['random'])} seeds)" for name, r in found.items()
    ]
    lines = [f"| query | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
    strategies = dict.fromkeys(s for r in found.values() for s in r.scores if s != "random")
    summaries = [r.summary(level=0.1) for r in found.values()]
    for strategy in strategies:
        cells = []
        for summary in summaries:
            if strategy not in summary.index:
                cells.append("")
                continue
            line = summary.loc[strategy]
            verdict = f" **{line.verdict}**" if line.verdict else ""
            cells.append(f"{line.difference:+.3f} ± {line.standard_error:.3f}{verdict}")
        lines.append(f"| {strategy} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def report(found: dict[str, QueryComparison]) -> str:
    """All tables, with the machine and the versions."""
    where = environment(("skuq", "torch", "numpy", "scikit-learn", "skorch"))
    head = ", ".join(f"{name} {value}" for name, value in where.items()) + "."
    text = "Differences of areas under learning curves to random, means ± standard errors:"
    tables = [markdown(name, r) for name, r in found.items()]
    return "\n".join(
        ["# Active learning, measured\n", f"{head}\n", f"{text}\n", overview(found), *tables]
    )


def draw(found: dict[str, QueryComparison], path: Path) -> None:
    """Learning curves of all tasks."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    n_rows = -(-len(found) // 2)
    figure, axes = plt.subplots(n_rows, 2, figsize=(11, 4 * n_rows), layout="constrained")
    for ax, (name, comparison) in zip(axes.flat, found.items()):
        comparison.plot(ax=ax, score_name="−RMSE" if TASKS[name].strategies == OF_NUMBERS else
                        "joints found" if name == "key-points" else "accuracy")  # fmt: skip
        ax.set_title(NAMES.get(name, name))
    for ax in axes.flat[len(found) :]:
        ax.set_axis_off()
    figure.savefig(path, dpi=70)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default=",".join(TASKS), help="names of tasks, with commas")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--report", action="store_true", help="run nothing, print tables")
    parser.add_argument("--publish", type=Path, help="folder for tables and pictures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    names = options.task.split(",")
    if not options.report:
        for seed in range(options.first, options.first + options.seeds):
            for name in names:
                for strategy in TASKS[name].strategies:
                    simulate(name, strategy, seed)
    found = {name: r for name in names if (r := results(name)) is not None}
    print(report(found))
    if options.publish:
        options.publish.mkdir(parents=True, exist_ok=True)
        (options.publish / "tables.md").write_text(report(found))
        draw(found, options.publish / "curves.png")


if __name__ == "__main__":
    main()
