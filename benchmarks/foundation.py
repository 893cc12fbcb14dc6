"""What skuq costs beside plain torch: training, prediction, and Monte-Carlo dropout.

Every contender of a table runs in one process, one after another in turns, so that a machine that
slows down slows them all. A ratio is the median over the turns of the ratio within a turn, with
its quartiles; seconds are medians. Before anything is timed, the answers are checked to agree.

    python benchmarks/foundation.py [--repeats 7] [--threads 1] [--json PATH]
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sklearn
import skorch
import torch
from torch import Tensor, nn

import skuq
from skuq import TorchClassifier
from skuq.posteriors import MCDropout, PointEstimate

LR = 1e-3
BATCH = 200  # of training
PREDICT_BATCH = 1024
IMAGE_BATCH = 128
N_DRAWS = 100

Contenders = dict[str, Callable[[], Any]]


class Bar(NamedTuple):
    """A goal: the time of `contender` is at most `limit` times that of `base`."""

    contender: str
    base: str
    limit: float


class Line(NamedTuple):
    """A row of the report."""

    table: str
    contender: str
    seconds: float
    ratio: tuple[float, float, float]  # to the first contender: median and quartiles


class Verdict(NamedTuple):
    """A bar and what was measured."""

    table: str
    bar: Bar
    ratio: tuple[float, float, float]

    @property
    def met(self) -> bool:
        return self.ratio[0] <= self.bar.limit


# ---------------------------------------------------------------------------------------------
# Measuring


def measure(contenders: Contenders, repeats: int) -> dict[str, list[float]]:
    """Seconds of each contender in each turn, after one turn of warm-up."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    for turn in range(repeats + 1):
        for name in order:
            gc.collect()
            start = time.perf_counter()
            contenders[name]()
            if turn:
                times[name].append(time.perf_counter() - start)
        order = [*order[1:], order[0]]  # nobody always follows the same one
    return times


def median_and_quartiles(values: list[float]) -> tuple[float, float, float]:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return float(middle), float(low), float(high)


def ratio(above: list[float], below: list[float]) -> tuple[float, float, float]:
    return median_and_quartiles([a / b for a, b in zip(above, below)])


def report(
    table: str, contenders: Contenders, bars: list[Bar], repeats: int
) -> tuple[list[Line], list[Verdict]]:
    times = measure(contenders, repeats)
    base = times[next(iter(contenders))]
    lines = [
        Line(table, name, statistics.median(seconds), ratio(seconds, base))
        for name, seconds in times.items()
    ]
    return lines, [Verdict(table, b, ratio(times[b.contender], times[b.base])) for b in bars]


def check(what: str, a: Any, b: Any, tolerance: float) -> None:
    """Contenders that do not compute the same must not be compared."""
    difference = float(np.abs(np.asarray(a) - np.asarray(b)).max())
    if not difference <= tolerance:
        raise SystemExit(f"{what} differ by {difference:.2g}, more than {tolerance:.2g}")
    print(f"checked: {what} differ by at most {difference:.1e}")


# ---------------------------------------------------------------------------------------------
# Data and networks


def table_data(n_rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """20 features, 10 classes: the largest of ten noisy linear scores."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(n_rows, 20)).astype(np.float32)
    scores = X @ np.random.default_rng(123).normal(size=(20, 10))
    return X, (scores + random.normal(size=scores.shape)).argmax(1)


def image_data(n_rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """28 × 28 images; a bright row says which of ten classes it is."""
    random = np.random.default_rng(seed)
    y = random.integers(10, size=n_rows)
    X = random.normal(size=(n_rows, 1, 28, 28)).astype(np.float32)
    X[np.arange(n_rows), 0, 2 * y + 4] += 1
    return X, y


def plain_mlp(n_features: int = 20, n_outputs: int = 10, seed: int | None = None) -> nn.Module:
    """What skuq's default module is without dropout; with a seed, always the same weights."""
    if seed is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return plain_mlp(n_features, n_outputs)
    return nn.Sequential(
        nn.Linear(n_features, 100),
        nn.ReLU(),
        nn.Linear(100, 100),
        nn.ReLU(),
        nn.Linear(100, n_outputs),
    )


class ConvNet(nn.Module):
    """Two convolutions with pooling, and a head with dropout."""

    def __init__(self, n_outputs: int = 10) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.head = nn.Sequential(
            nn.Linear(32 * 7 * 7, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, n_outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x))


# ---------------------------------------------------------------------------------------------
# The loops that a user would write by hand


def loop_fit(
    X: np.ndarray, y: np.ndarray, shuffle: bool = True, seed: int | None = None
) -> nn.Module:
    """One epoch: fused Adam, batches as slices of a shuffled copy, no record of the losses."""
    module = plain_mlp(seed=seed)
    optimizer = torch.optim.Adam(module.parameters(), lr=LR, fused=True)
    criterion = nn.CrossEntropyLoss()
    inputs, targets = torch.from_numpy(X), torch.from_numpy(y)
    if shuffle:
        order = torch.randperm(len(inputs))
        inputs, targets = inputs[order], targets[order]
    for start in range(0, len(inputs), BATCH):
        optimizer.zero_grad(set_to_none=True)
        loss = criterion(module(inputs[start : start + BATCH]), targets[start : start + BATCH])
        loss.backward()
        optimizer.step()
    return module


@torch.no_grad()
def loop_proba(module: nn.Module, X: np.ndarray, batch: int = PREDICT_BATCH) -> np.ndarray:
    """Probabilities, by slices."""
    inputs = torch.from_numpy(X)
    parts = [module(inputs[i : i + batch]).softmax(1) for i in range(0, len(X), batch)]
    return torch.cat(parts).numpy()


def loop_dropout(module: ConvNet, X: np.ndarray, n_draws: int) -> np.ndarray:
    """Entropy of the mean over forwards with fresh dropout, the way without skuq."""
    module.eval()
    module.head.train()
    proba = sum(loop_proba(module, X, IMAGE_BATCH).astype(float) for _ in range(n_draws)) / n_draws
    module.eval()
    return -(proba * np.log(proba)).sum(1)


def skorch_net(module: nn.Module, **parameters: Any) -> skorch.NeuralNetClassifier:
    """Stock skorch: its default callbacks and torch's DataLoader; it predicts in larger batches."""
    return skorch.NeuralNetClassifier(
        module,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=LR,
        max_epochs=1,
        batch_size=BATCH,
        iterator_train__shuffle=True,
        iterator_valid__batch_size=PREDICT_BATCH,
        train_split=None,
        verbose=0,
        **parameters,
    )


def skuq_mlp(**parameters: Any) -> TorchClassifier:
    return TorchClassifier(
        posterior=PointEstimate(),
        lr=LR,
        max_epochs=1,
        batch_size=BATCH,
        device="cpu",
        random_state=0,
        **parameters,
    )


# ---------------------------------------------------------------------------------------------
# The tables


def compare_fit(repeats: int) -> tuple[list[Line], list[Verdict]]:
    X, y = table_data(100_000)
    X_test, y_test = table_data(10_000, seed=1)

    def same_beginning(n_features: int, n_outputs: int) -> nn.Module:
        return plain_mlp(n_features, n_outputs, seed=0)

    ours = skuq_mlp(module=same_beginning, iterator_train__shuffle=False).fit(X, y)
    by_hand = loop_fit(X, y, shuffle=False, seed=0)
    check(
        "weights after an epoch without shuffling, of skuq and of the loop,",
        nn.utils.parameters_to_vector(ours.module_.parameters()).detach(),
        nn.utils.parameters_to_vector(by_hand.parameters()).detach(),
        1e-4,
    )
    shuffled = skuq_mlp(module__dropout=0.0).fit(X, y).score(X_test, y_test)
    loop_score = float((loop_proba(loop_fit(X, y), X_test).argmax(1) == y_test).mean())
    check("accuracies after a shuffled epoch, of skuq and of the loop,", shuffled, loop_score, 0.05)
    theirs = skorch_net(plain_mlp()).fit(X, y).score(X_test, y_test)
    check("accuracies after a shuffled epoch, of skorch and of the loop,", theirs, loop_score, 0.05)

    contenders: Contenders = {
        "torch loop": lambda: loop_fit(X, y),
        "skuq": lambda: skuq_mlp(module__dropout=0.0).fit(X, y),
        "stock skorch": lambda: skorch_net(plain_mlp()).fit(X, y),
    }
    bars = [Bar("skuq", "torch loop", 1.6), Bar("skuq", "stock skorch", 0.5)]
    return report("fit, MLP 20-100-100-10, 100,000 rows, 1 epoch", contenders, bars, repeats)


def compare_predict(repeats: int) -> tuple[list[Line], list[Verdict]]:
    X, y = table_data(100_000)
    ours = skuq_mlp(module__dropout=0.0).fit(X, y)
    module = plain_mlp()
    with torch.no_grad():
        for mine, trained in zip(module.parameters(), ours.module_.parameters()):
            mine.copy_(trained)
    theirs = skorch_net(module).initialize()
    expected = loop_proba(module, X)
    check("probabilities of skuq and of the loop", ours.predict_proba(X), expected, 1e-4)
    check("probabilities of skorch and of the loop", theirs.predict_proba(X), expected, 1e-4)

    contenders: Contenders = {
        "torch loop": lambda: loop_proba(module, X),
        "skuq": lambda: ours.predict_proba(X),
        "stock skorch": lambda: theirs.predict_proba(X),
    }
    bars = [Bar("skuq", "torch loop", 2)]
    return report("predict_proba, the same MLP, 100,000 rows", contenders, bars, repeats)


def compare_dropout(repeats: int) -> tuple[list[Line], list[Verdict]]:
    X, y = image_data(1000)
    ours = TorchClassifier(
        ConvNet,
        posterior=MCDropout(n_draws=N_DRAWS),
        lr=LR,
        max_epochs=3,
        batch_size=BATCH,
        device="cpu",
        random_state=0,
    ).fit(X, y)
    module = ConvNet()
    module.load_state_dict(ours.module_.state_dict())
    module.eval()
    # Masks are random in both: the mean over the rows, with 100 draws, is known to a few percent.
    entropies = ours.predict_uncertainty(X)
    check("mean entropies", entropies.mean(), loop_dropout(module, X, N_DRAWS).mean(), 0.05)

    contenders: Contenders = {
        "one plain forward": lambda: loop_proba(module, X, IMAGE_BATCH),
        "skuq": lambda: ours.predict_uncertainty(X),
        f"loop of {N_DRAWS} forwards": lambda: loop_dropout(module, X, N_DRAWS),
    }
    bars = [Bar("skuq", "one plain forward", 4)]
    title = f"{N_DRAWS} draws of MC dropout, conv net with dropout in its head, 1,000 images"
    return report(title, contenders, bars, repeats)


# ---------------------------------------------------------------------------------------------
# The report


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({len(names)} cores)" if names else platform.machine()


def environment(threads: int, repeats: int) -> dict[str, Any]:
    return {
        "date": date.today().isoformat(),
        "processor": processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "torch threads": threads,
        "turns": repeats,
        "python": platform.python_version(),
        **{m.__name__: m.__version__ for m in (skuq, torch, skorch, sklearn, np)},
    }


def span(of: tuple[float, float, float]) -> str:
    return f"{of[0]:.2f} [{of[1]:.2f}–{of[2]:.2f}]"


def markdown(where: dict[str, Any], lines: list[Line], verdicts: list[Verdict]) -> str:
    rows = [", ".join(f"{name} {value}" for name, value in where.items()) + ".", ""]
    for table in dict.fromkeys(line.table for line in lines):
        rows += [f"| {table} | seconds | ratio [quartiles] |", "|---|---|---|"]
        rows += [
            f"| {line.contender} | {line.seconds:.3f} | {span(line.ratio)} |"
            for line in lines
            if line.table == table
        ]
        rows.append("")
        rows += [
            f"* {v.bar.contender} / {v.bar.base}: {span(v.ratio)}, goal at most {v.bar.limit}: "
            + ("met" if v.met else "missed")
            for v in verdicts
            if v.table == table
        ]
        rows.append("")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="skuq beside plain torch and stock skorch, as ratios from one run."
    )
    parser.add_argument("--repeats", type=int, default=7, help="turns after the warm-up")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    lines: list[Line] = []
    verdicts: list[Verdict] = []
    for compare in (compare_fit, compare_predict, compare_dropout):
        more_lines, more_verdicts = compare(options.repeats)
        lines += more_lines
        verdicts += more_verdicts
    where = environment(options.threads, options.repeats)
    print("\n" + markdown(where, lines, verdicts))
    if options.json:
        result = {
            "environment": where,
            "lines": [line._asdict() for line in lines],
            "bars": [{**v._asdict(), "bar": v.bar._asdict(), "met": v.met} for v in verdicts],
        }
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
