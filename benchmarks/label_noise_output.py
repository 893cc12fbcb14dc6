"""Tables and pictures of the runs on noisy labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

Record = dict[str, Any]

COLUMNS = {
    "accuracy": "accuracy",
    "pair_accuracy": "accuracy of pairs",
    "nll": "NLL",
    "ece": "ECE",
    "error_auroc_entropy": "errors: entropy",
    "error_auroc_noise": "errors: σ²",
    "flip_auroc_loss": "flips: loss",
    "flip_auroc_noise_variance": "flips: σ²",
    "flip_auroc_disagreement": "flips: disagreement",
    "untouched_weight": "weight of untouched",
}
VIEWS = {"one": "", "tta": " + TTA"}
# What the history has for each epoch, of validation images.
CURVES = {
    "valid_nll": "validation loss\n(NLL of noisy labels, nats)",
    "valid_accuracy": "validation accuracy,\nnoisy labels",
    "valid_clean": "validation accuracy,\nclean labels",
}
STYLES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))


def told(record: Record) -> str:
    one = record["views"]["one"]
    return (
        f"seed {record['seed']}, rate {record['rate']:g}, {record['loss']}: accuracy "
        f"{one['accuracy']:.4f}, NLL {one['nll']:.3f}, fit in {record['seconds']:.0f} s"
    )


def ordered(records: Sequence[Record], key: str) -> list[Any]:
    return list(dict.fromkeys(record[key] for record in records))


def of(records: Sequence[Record], **wanted: Any) -> list[Record]:
    return [r for r in records if all(r[key] == value for key, value in wanted.items())]


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean and its standard error, which one seed does not have."""
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return float(np.mean(values)), float(error)


def cell(values: Sequence[float | None], sign: bool = False) -> str:
    numbers = [value for value in values if value is not None]
    if not numbers or len(numbers) < len(values):
        return "–"
    mean, error = mean_and_error(numbers)
    text = f"{mean:+.4f}" if sign else f"{mean:.4f}"
    return text if np.isnan(error) else f"{text} ± {error:.4f}"


# ---------------------------------------------------------------------------------------------
# Tables


def markdown(name: str, where: dict[str, Any], records: Sequence[Record]) -> str:
    """Everything, of seeds that are complete."""
    seeds, rates = ordered(records, "seed"), ordered(records, "rate")
    head = ", ".join(f"{key} {value}" for key, value in where.items())
    parts = [
        f"## {name}, {len(seeds)} seed{'s' if len(seeds) > 1 else ''}",
        f"{head}. Mean ± standard error over the seeds.",
    ]
    for rate in rates:
        parts.append(f"**{rate:.0%} of the labels of listed classes flipped**\n")
        parts.append(table(of(records, rate=rate)))
    if "CE" in ordered(records, "loss") and len(seeds) > 1:
        parts.append("**Accuracy minus that of CE, same seed**\n")
        parts.append(differences(records))
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def table(records: Sequence[Record]) -> str:
    shown = [k for k in COLUMNS if any(k in v for r in records for v in r["views"].values())]
    rows = [
        "| loss | " + " | ".join(COLUMNS[key] for key in shown) + " |",
        "|---" * (len(shown) + 1) + "|",
    ]
    for loss in ordered(records, "loss"):
        mine = of(records, loss=loss)
        for views, suffix in VIEWS.items():
            if all(views in record["views"] for record in mine):
                cells = [cell([r["views"][views].get(key) for r in mine]) for key in shown]
                rows.append(f"| {loss}{suffix} | " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


def differences(records: Sequence[Record], base: str = "CE") -> str:
    """Paired by seed: what differs between seeds for every loss cancels."""
    rates = ordered(records, "rate")
    rows = [
        "| loss | " + " | ".join(f"{rate:.0%}" for rate in rates) + " |",
        "|---" * (len(rates) + 1) + "|",
    ]
    for loss in ordered(records, "loss"):
        if loss == base:
            continue
        cells = [cell(paired(of(records, rate=rate), loss, base), sign=True) for rate in rates]
        rows.append(f"| {loss} | " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


def paired(records: Sequence[Record], loss: str, base: str) -> list[float]:
    """Accuracy of one loss minus that of another, for each seed."""
    above, below = (
        {r["seed"]: r["views"]["one"]["accuracy"] for r in of(records, loss=name)}
        for name in (loss, base)
    )
    return [above[seed] - below[seed] for seed in above]


# ---------------------------------------------------------------------------------------------
# Pictures


def write(folder: Path, name: str, text: str, records: Sequence[Record]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(text)
    import matplotlib

    matplotlib.use("Agg")
    # Without a date and with fixed names, pictures of the same numbers are the same files.
    matplotlib.rcParams["svg.hashsalt"] = "skuq"
    from matplotlib import pyplot as plt

    for kind, draw in (("curves", draw_curves), ("accuracy", draw_accuracy)):
        figure = draw(plt, records)
        figure.savefig(folder / f"{name}-{kind}.svg", metadata={"Date": None})
        plt.close(figure)


def draw_curves(plt: Any, records: Sequence[Record]) -> Any:
    """Loss and accuracies on validation images, epoch by epoch: a column for each rate."""
    rates, losses = ordered(records, "rate"), ordered(records, "loss")
    figure, axes = plt.subplots(
        len(CURVES), len(rates), figsize=(1.5 + 3.2 * len(rates), 8.5), sharex=True, sharey="row",
        squeeze=False, layout="constrained",
    )  # fmt: skip
    for column, rate in enumerate(rates):
        for (key, label), ax in zip(CURVES.items(), axes[:, column]):
            for loss, style in zip(losses, STYLES):
                runs = of(records, rate=rate, loss=loss)
                curves = np.array([[row[key] for row in r["history"]] for r in runs])
                ax.plot(np.arange(1, curves.shape[1] + 1), curves.mean(0), ls=style, label=loss)
            ax.grid(alpha=0.3)
            if column == 0:
                ax.set_ylabel(label)
        axes[0, column].set_title(f"{rate:.0%} flipped")
        axes[-1, column].set_xlabel("epoch")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure


def draw_accuracy(plt: Any, records: Sequence[Record]) -> Any:
    """Accuracy on clean test images against the rate; bars are standard errors."""
    rates = ordered(records, "rate")
    figure, ax = plt.subplots(figsize=(6, 4.5), layout="constrained")
    for loss, style in zip(ordered(records, "loss"), STYLES):
        found = [
            mean_and_error([r["views"]["one"]["accuracy"] for r in of(records, rate=a, loss=loss)])
            for a in rates
        ]
        means, errors = np.array(found).T
        ax.errorbar(rates, means, np.nan_to_num(errors), ls=style, marker="o", ms=4, label=loss)
    ax.set(xlabel="rate of flipped labels", ylabel="accuracy on clean test images", xticks=rates)
    ax.grid(alpha=0.3)
    ax.legend()
    return figure
