"""Label smoothing: accuracy, calibration, refusals, strange images, and the penultimate layer.

    python -m benchmarks.label_smoothing [--data fashion-mnist] [--seeds 10] [--publish FOLDER]

from the root of the repository. Networks with and without smoothing get the same images, initial
seeds, optimizer and epochs; nothing stops early. One temperature is fitted on validation rows that
trained nothing. Each run (an ε and a seed) is a file below benchmarks/output/label_smoothing/, so
the command goes on after an interruption. Images of Fashion-MNIST and MNIST are read from
`images/` in $SKUQ_DATA, by default `../shared/data`; digits need none.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score

from benchmarks.label_noise_runs import Experiment, Split, data_folder, experiment
from skuq import TorchClassifier, predict_features
from skuq.calibration import TemperatureScaler
from skuq.likelihoods import Categorical
from skuq.metrics import (
    area_under_risk_coverage,
    expected_calibration_error,
    negative_log_likelihood,
    uncertainty_error_auroc,
)
from skuq.posteriors import PointEstimate

OUTPUT = Path(__file__).parent / "output" / "label_smoothing"
CHANGES: dict[str, dict[str, Any]] = {
    "digits": {"epochs": 100, "lr": 1e-3, "seeds": 10},
    "fashion-mnist": {"seeds": 5},
}


def load(of: Experiment, seed: int) -> Split:
    """The data of a seed. Digits are few: more of them judge nothing, but fit the temperature."""
    data = of.load(seed, of.images)
    if of.name != "digits":
        return data
    more, rest = slice(None, 300), slice(300, None)
    return data._replace(
        X_valid=np.concatenate([data.X_valid, data.X_test[more]]),
        y_valid=np.concatenate([data.y_valid, data.y_test[more]]),
        X_test=data.X_test[rest],
        y_test=data.y_test[rest],
    )


def strange_images(of: Experiment, data: Split) -> np.ndarray:
    """Images of no class: MNIST, or digits whose pixels are shuffled, one order for all."""
    if of.name == "digits":
        order = np.random.default_rng(0).permutation(64)
        return data.X_test.reshape(-1, 64)[:, order].reshape(data.X_test.shape)
    with np.load(data_folder() / "images" / "mnist_test.npz") as file:
        return (file["X"][:5000].astype(np.float32)[:, None] / 255 - 0.286) / 0.353


def fit(of: Experiment, epsilon: float, seed: int, data: Split) -> TorchClassifier:
    return TorchClassifier(
        of.module,
        likelihood=Categorical(label_smoothing=epsilon),
        posterior=PointEstimate(),
        lr=of.lr,
        max_epochs=of.epochs,
        batch_size=of.batch_size,
        random_state=seed,
        **{f"module__{name}": value for name, value in of.module_parameters.items()},
    ).fit(data.X, data.y)


def tightness(features: np.ndarray, y: np.ndarray) -> float:
    """Mean squared distance to the mean of the class, divided by that between means of classes."""
    means = np.stack([features[y == k].mean(0) for k in np.unique(y)])
    within = ((features - means[y]) ** 2).sum(1).mean()
    return float(within / ((means - means.mean(0)) ** 2).sum(1).mean())


def quality(y: np.ndarray, proba: np.ndarray, strange: np.ndarray) -> dict[str, float]:
    """Calibration, and how well 1 - max p ranks errors and strange images."""
    predicted, doubt = proba.argmax(1), 1 - proba.max(1)
    news = np.concatenate([doubt, 1 - strange.max(1)])
    return {
        "nll": negative_log_likelihood(y, proba),
        "ece": expected_calibration_error(y, proba),
        "aurc": area_under_risk_coverage(y, predicted, doubt),
        "error_auroc": uncertainty_error_auroc(y, predicted, doubt),
        "strange_auroc": float(roc_auc_score(np.arange(len(news)) >= len(doubt), news)),
    }


def measure(of: Experiment, model: TorchClassifier, data: Split) -> dict[str, float]:
    strange = strange_images(of, data)
    scaled = TemperatureScaler(FrozenEstimator(model)).fit(data.X_valid, data.y_valid)
    found = {"accuracy": float(model.score(data.X_test, data.y_test))}
    for name, one in (("", model), ("_scaled", scaled)):
        proba = one.predict_proba(data.X_test)
        values = quality(data.y_test, proba, one.predict_proba(strange))
        found |= {f"{key}{name}": value for key, value in values.items()}
    found["temperature"] = float(scaled.temperature_)
    found["tightness"] = tightness(predict_features(model, data.X_test), data.y_test)
    return found


def run(of: Experiment, epsilon: float, seed: int, folder: Path) -> dict[str, Any]:
    """A record of one network; seed 0 also keeps what the picture draws."""
    path = folder / f"epsilon{epsilon:g}-seed{seed}.json"
    if path.exists():
        return json.loads(path.read_text())  # type: ignore[no-any-return]
    data = load(of, seed)
    model = fit(of, epsilon, seed, data)
    if seed == 0:
        last = dict(model.module_.named_modules())[model.network_.last_layer]
        np.savez(
            path.with_suffix(".npz"),
            features=predict_features(model, data.X_test).astype(np.float32),
            weight=last.weight.detach().numpy(),
            bias=last.bias.detach().numpy(),
            y=data.y_test,
        )
    record = {"epsilon": epsilon, "seed": seed, **measure(of, model, data)}
    path.write_text(json.dumps(record, indent=1) + "\n")
    return record


def mean_and_error(values: Sequence[float]) -> str:
    of = np.asarray(values, float)
    error = of.std(ddof=1) / np.sqrt(len(of)) if len(of) > 1 else np.nan
    return f"{of.mean():.4f} ± {error:.4f}"


def table(records: list[dict[str, Any]]) -> list[str]:
    """Means ± standard errors over seeds, and differences from no smoothing in the same seed."""
    by = {(r["epsilon"], r["seed"]): r for r in records}
    epsilons = sorted({e for e, _ in by})
    seeds = sorted({s for _, s in by if all((e, s) in by for e in epsilons)})
    names = [name for name in records[0] if name not in ("epsilon", "seed")]
    heads = [f"ε = {e:g}" for e in epsilons] + [f"{e:g} minus 0, same seed" for e in epsilons[1:]]
    lines = [f"| {len(seeds)} seeds | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for name in names:
        columns = [[by[e, s][name] for s in seeds] for e in epsilons]
        columns += [np.subtract(column, columns[0]) for column in columns[1:]]
        cells = " | ".join(mean_and_error(column) for column in columns)
        lines.append(f"| {name.replace('_', ' ')} | {cells} |")
    return lines


def draw(
    folder: Path, path: Path, epsilons: list[float], classes: Sequence[int], names: Sequence[str]
) -> None:
    """The test rows of three classes in the plane of their weights, by ε."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    from skuq.metrics import ClassPlaneDisplay

    size = (5 * len(epsilons), 4.6)
    figure, axes = plt.subplots(1, len(epsilons), figsize=size, layout="constrained", squeeze=False)
    for ax, epsilon in zip(axes[0], epsilons):
        with np.load(folder / f"epsilon{epsilon:g}-seed0.npz") as file:
            of = {name: file[name] for name in file.files}
        labels = np.array(names)
        ClassPlaneDisplay.from_predictions(
            labels[of["y"]],
            of["features"],
            of["weight"],
            of["bias"],
            class_names=labels,
            classes=[names[k] for k in classes],
            ax=ax,
            name=f"ε = {epsilon:g}",
        )
    figure.savefig(path, dpi=80)
    plt.close(figure)


FASHION = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker",
           "bag", "boot")  # fmt: skip
SHOWN = {"digits": (2, 3, 8), "fashion-mnist": (0, 6, 2)}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=tuple(CHANGES), default="digits")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--epsilons", default="0,0.1", help="of the smoothing, with commas")
    parser.add_argument("--images", type=int, help="to train on")
    parser.add_argument("--folder", type=Path, default=OUTPUT, help="for results")
    parser.add_argument("--publish", type=Path, help="a folder for the table and the picture")
    options = parser.parse_args(arguments)
    given = {name: getattr(options, name) for name in ("seeds", "epochs", "images")}
    changes = CHANGES[options.data] | {k: v for k, v in given.items() if v is not None}
    of = dataclasses.replace(experiment(options.data), **changes)
    folder = options.folder / f"{of.name}-{of.images}-images-{of.epochs}-epochs"
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    epsilons = [float(epsilon) for epsilon in options.epsilons.split(",")]
    records = []
    for seed in range(of.seeds):
        for epsilon in epsilons:
            records.append(run(of, epsilon, seed, folder))
            print(f"seed {seed}, ε = {epsilon:g}: {records[-1]['accuracy']:.4f}", flush=True)
    lines = table(records)
    print("\n".join(lines))
    if options.publish:
        options.publish.mkdir(parents=True, exist_ok=True)
        (options.publish / f"{of.name}.md").write_text("\n".join(lines) + "\n")
        names = FASHION if of.name == "fashion-mnist" else [str(k) for k in range(10)]
        draw(folder, options.publish / f"{of.name}.png", epsilons, SHOWN[of.name], names)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
