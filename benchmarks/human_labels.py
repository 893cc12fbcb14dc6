"""Human disagreement as the truth: CIFAR-10H beside published outputs of image classifiers.

    python -m benchmarks.human_labels [--data FOLDER] [--seeds 5] [--publish FOLDER]

from the root of the repository. The folder holds `outputs/cifar10h_counts.npz`, about 51 human
labels for each test image of CIFAR-10 (Peterson et al. 2019, arXiv:1908.07086), and softmax
outputs of classifiers on the same images; by default it is $SKUQ_DATA, else `../shared/data`. Two
questions:

1. Are the classifiers unsure where people are? KL(human || p) and Spearman's correlation of
   entropies, before and after one temperature, which the first 5,000 images fit: to the labels, or
   to the human distributions. The others judge.
2. Does training on the human distributions help? A small network learns to combine the seven
   networks' log-probabilities on the first 5,000 images, from labels or from human distributions.
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.special import rel_entr
from scipy.stats import spearmanr
from sklearn.preprocessing import StandardScaler

from skuq import TorchClassifier
from skuq.calibration import fit_temperature
from skuq.likelihoods import Categorical
from skuq.metrics import expected_calibration_error, negative_log_likelihood
from skuq.posteriors import DeepEnsemble
from skuq.uncertainty import entropy, entropy_decomposition

HALF = 5000
LEAST = 1e-12  # a probability of zero would make the divergence infinite


class Outputs:
    """Log-probabilities of classifiers, (n_draws, n_images, 10); human shares and labels."""

    def __init__(self, folder: Path) -> None:
        with np.load(folder / "cifar10h_counts.npz") as file:
            self.counts = file["counts"].astype(float)
        self.human = self.counts / self.counts.sum(1, keepdims=True)
        self.logits: dict[str, np.ndarray] = {}
        with np.load(folder / "cifar10_7models_probs.npz") as file:
            self.y = file["labels"].astype(int)
            draws = log(file["probs"])
            for name, one in zip(file["models"], draws):
                self.logits[str(name)] = one[None]
        for name in ("lenet-5", "wideresnet-16-4"):
            with np.load(folder / f"netcal_{name}-cifar-10_probs.npz") as file:
                if not np.array_equal(file["labels"], self.y):
                    raise ValueError(f"the images of {name} are in another order")
                self.logits[name] = log(file["probs"])[None]
        self.draws = draws
        self.logits["mean of the first 7"] = draws


def log(proba: np.ndarray) -> np.ndarray:
    return np.log(np.clip(proba.astype(float), LEAST, None))


def mean_proba(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """The mean of the draws' softmax, after each has been divided by the temperature."""
    scaled = logits / temperature
    proba = np.exp(scaled - scaled.max(-1, keepdims=True))
    return (proba / proba.sum(-1, keepdims=True)).mean(0)


def divergence(human: np.ndarray, proba: np.ndarray) -> float:
    """The mean over images of KL(human || p), in nats."""
    return float(rel_entr(human, np.clip(proba, LEAST, None)).sum(1).mean())


def agreement(human: np.ndarray, uncertainty: np.ndarray) -> float:
    """Spearman's correlation of the human entropy and an uncertainty."""
    return float(spearmanr(entropy(human), uncertainty).statistic)


def human_temperature(logits: np.ndarray, human: np.ndarray) -> float:
    """The temperature that suits the human distributions: every class is a label with a weight."""
    n_rows, n_classes = human.shape
    copies = np.repeat(logits[..., None], n_classes, axis=-1)
    y = np.tile(np.arange(n_classes), (n_rows, 1))
    return float(fit_temperature(copies, y, human))


def ceiling(counts: np.ndarray, seed: int = 0) -> float:
    """The correlation with the measured entropy that the entropy of infinitely many people has.

    Votes are split into halves at random; Spearman and Brown's formula gives the reliability of
    all of them, and its root is the bound.
    """
    random, whole = np.random.default_rng(seed), counts.astype(int)
    half = random.multivariate_hypergeometric
    first = np.stack([half(row, row.sum() // 2) for row in whole])
    shares = [part / part.sum(1, keepdims=True) for part in (first, whole - first)]
    r = spearmanr(*(entropy(share) for share in shares)).statistic
    return float(np.sqrt(2 * r / (1 + r)))


def classifiers_table(of: Outputs) -> list[str]:
    """Each classifier on the images that fit no temperature."""
    heads = ["classifier", "T of labels / humans", "KL", "KL, T of labels", "KL, T of humans"]
    heads += ["ρ", "ρ, T of labels", "ρ, all images"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    train, test = slice(HALF), slice(HALF, None)
    for name, logits in of.logits.items():
        by_labels = fit_temperature(logits[:, train], of.y[train])
        by_humans = human_temperature(logits[:, train], of.human[train])
        human = of.human[test]
        proba = [mean_proba(logits[:, test], t) for t in (1.0, by_labels, by_humans)]
        whole = agreement(of.human, entropy(mean_proba(logits)))
        cells = [f"{by_labels:.3f} / {by_humans:.3f}"]
        cells += [f"{divergence(human, p):.4f}" for p in proba]
        cells += [f"{agreement(human, entropy(p)):.4f}" for p in proba[:2]] + [f"{whole:.4f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def parts_table(of: Outputs) -> list[str]:
    """Which part of the uncertainty of seven networks goes with human entropy, on all images."""
    parts = entropy_decomposition(np.exp(of.draws) / np.exp(of.draws).sum(-1, keepdims=True))
    lines = ["| uncertainty of the 7 networks | ρ with human entropy |", "|---|---|"]
    for name in ("total", "aleatoric", "epistemic"):
        lines.append(f"| {name} | {agreement(of.human, getattr(parts, name)):.4f} |")
    return [*lines, f"| bound by the number of people | {ceiling(of.counts):.4f} |"]


def combined_table(of: Outputs, n_seeds: int, n_rows: int = HALF) -> list[str]:
    """Small ensembles that combine the seven networks, trained on labels or on humans."""
    X = np.moveaxis(np.maximum(of.draws, -12), 0, 1).reshape(len(of.y), -1)
    X = StandardScaler().fit(X[:n_rows]).transform(X).astype(np.float32)
    test, human, y = slice(HALF, None), of.human[HALF:], of.y[HALF:]
    plain = mean_proba(of.draws[:, test])
    scaled = mean_proba(of.draws[:, test], fit_temperature(of.draws[:, :HALF], of.y[:HALF]))
    warmer = human_temperature(of.draws[:, :HALF], of.human[:HALF])
    found = {"mean of the 7": [judged(plain, human, y)]}
    found["mean of the 7, T of labels"] = [judged(scaled, human, y)]
    found["mean of the 7, T of humans"] = [judged(mean_proba(of.draws[:, test], warmer), human, y)]
    targets = {
        "learnt from labels": (Categorical(), of.y),
        "from labels, ε = 0.1": (Categorical(label_smoothing=0.1), of.y),
        "from the most frequent human label": (Categorical(), of.human.argmax(1)),
        "from human distributions": (Categorical(soft_labels=True), of.human),
    }
    for seed in range(n_seeds):
        for name, (likelihood, target) in targets.items():
            model = TorchClassifier(
                likelihood=likelihood, posterior=DeepEnsemble(5), lr=1e-3, random_state=seed
            ).fit(X[:n_rows], target[:n_rows])
            proba = model.predict_proba(X[test])
            found.setdefault(name, []).append(judged(proba, human, y))
            print(f"seed {seed}, {name}: {np.round(found[name][-1], 4)}", flush=True)
    lines = ["| | KL from humans | ρ of entropies | NLL of labels | ECE | accuracy |"]
    lines.append("|---" * 6 + "|")
    for name, rows in found.items():
        lines.append(f"| {name} | {' | '.join(map(cell, zip(*rows)))} |")
    return lines


def judged(proba: np.ndarray, human: np.ndarray, y: np.ndarray) -> tuple[float, ...]:
    return (
        divergence(human, proba),
        agreement(human, entropy(proba)),
        negative_log_likelihood(y, proba),
        expected_calibration_error(y, proba),
        float((proba.argmax(1) == y).mean()),
    )


def cell(values: Sequence[float]) -> str:
    of = np.asarray(values)
    if len(of) == 1:
        return f"{of[0]:.4f}"
    return f"{of.mean():.4f} ± {of.std(ddof=1) / np.sqrt(len(of)):.4f}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("SKUQ_DATA", Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--seeds", type=int, default=5, help="of the training; 0 trains nothing")
    parser.add_argument("--publish", type=Path, help="a folder for the tables")
    options = parser.parse_args(arguments)
    folder = options.data / "outputs"
    if not folder.is_dir():
        raise SystemExit(f"skipped: there is no {folder}; give the folder with --data")
    of = Outputs(folder)
    tables = [classifiers_table(of), parts_table(of)]
    if options.seeds:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tables.append(combined_table(of, options.seeds))
    text = "\n\n".join("\n".join(table) for table in tables)
    print(text)
    if options.publish:
        options.publish.mkdir(parents=True, exist_ok=True)
        (options.publish / "human_labels.md").write_text(text + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
