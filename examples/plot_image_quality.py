"""
Can an uncertainty rank images by their quality?
================================================

A network that was trained on clean images should be less sure of blurred, noisy or compressed
ones. If it is, its uncertainty ranks images by quality, without a reference image and without
labels. Here the truth is known: digits are made worse in five severities, and Spearman's
correlation of uncertainty and severity says how well the ranking works.

It takes about 20 seconds.
"""

import io
import sys

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from scipy.stats import rankdata, spearmanr
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skuq import TorchClassifier
from skuq.novelty import NoveltyDetector
from skuq.posteriors import DeepEnsemble
from skuq.shift import corrupt

torch.set_num_threads(1)  # networks as small as these train fastest so
SIDE, SEEDS, SEVERITIES = 16, range(4), range(6)
digits, labels = load_digits(return_X_y=True)
digits = np.kron(digits.reshape(-1, 8, 8) / 16, np.ones((2, 2))).astype(np.float32)

# %%
# Blur and noise are those of `skuq.shift`. Compression is JPEG's, which works on blocks of 8 × 8
# pixels: so the digits, of 8 × 8, are drawn twice as large.


def jpeg(images, severity):
    quality = (100, 30, 15, 8, 4, 1)[severity]
    made = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray((255 * image).round().astype(np.uint8)).save(file, "JPEG", quality=quality)
        made.append(np.asarray(Image.open(file), dtype=np.float32) / 255)
    return np.array(made)


def worsened(images, kind, severity, seed):
    if kind == "compression":
        return jpeg(images, severity) if severity else images
    name = {"blur": "blur", "noise": "gaussian_noise"}[kind]
    return corrupt(images, name, severity, value_range=(0, 1), random_state=seed)


# %%
# The measures are the uncertainties of an ensemble, and the distance from known features.


def uncertainties(model, detector, images):
    rows = images.reshape(len(images), -1)
    parts = model.predict_uncertainty(rows, kind="all")
    return {**parts._asdict(), "novelty": detector.predict_novelty(rows)}


# %%
# Two correlations. *Within* an image: its six versions are ranked, and the correlation is averaged
# over images. *Across* images: all versions of all images are ranked together, as one would sort a
# folder. There, a clean image that is hard to read competes with a bad one that is easy to read.


def within(scores):
    """`scores` of shape (n_severities, n_images); constant ones rank nothing."""
    severity = np.arange(len(scores)) - (len(scores) - 1) / 2
    ranks = rankdata(scores, axis=0) - (len(scores) + 1) / 2
    size = np.sqrt((ranks**2).sum(0) * (severity**2).sum())
    return np.mean(np.divide(severity @ ranks, size, out=np.zeros_like(size), where=size > 0))


def across(scores):
    return spearmanr(np.repeat(np.arange(len(scores)), scores.shape[1]), scores.ravel()).statistic


KINDS = ("blur", "noise", "compression")
found, accuracy, shown = {}, {kind: [] for kind in KINDS}, {}
for seed in SEEDS:
    X_train, X_test, y_train, y_test = train_test_split(
        digits, labels, train_size=1000, test_size=400, stratify=labels, random_state=seed
    )
    model = TorchClassifier(
        posterior=DeepEnsemble(5), module__hidden_layer_sizes=(64, 64), lr=3e-3, max_epochs=20,
        batch_size=64, device="cpu", random_state=seed,
    )  # fmt: skip
    detector = NoveltyDetector(model).fit(X_train.reshape(len(X_train), -1), y_train)
    model = detector.estimator_
    for kind in KINDS:
        versions = [worsened(X_test, kind, severity, seed) for severity in SEVERITIES]
        scores = [uncertainties(model, detector, images) for images in versions]
        right = [model.score(v.reshape(len(v), -1), y_test) for v in versions]
        accuracy[kind].append(right)
        for measure in scores[0]:
            table = np.stack([of[measure] for of in scores])
            found.setdefault((measure, kind), []).append((within(table), across(table)))
            if seed == 0:
                shown[measure, kind] = table, versions

# %%
# Means ± standard errors over the seeds.


def cell(values):
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1) / len(values) ** 0.5:.3f}"


for kind, rows in accuracy.items():
    print(f"accuracy, {kind:<12} " + "  ".join(f"{a:.2f}" for a in np.mean(rows, axis=0)))
for number, title in enumerate(("within an image", "across images")):
    print(f"\nrank correlation with the severity, {title}, {len(SEEDS)} seeds")
    print(" " * 12 + "".join(kind.rjust(18) for kind in KINDS))
    for measure in dict.fromkeys(measure for measure, _ in found):
        cells = (cell([pair[number] for pair in found[measure, kind]]) for kind in KINDS)
        print(f"{measure:<12}" + "".join(text.rjust(18) for text in cells))

# %%
# The picture: left a digit in six severities; right the uncertainties of all test images by
# severity (medians and quartiles), total and epistemic.

figure = plt.figure(figsize=(11, 5), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[1, 1.1])
for row, kind in zip(left.subplots(3, 6), KINDS):
    versions = shown["total", kind][1]
    for severity, ax in zip(SEVERITIES, row):
        ax.imshow(versions[severity][3], cmap="gray_r", vmin=0, vmax=1)
        value = shown["total", kind][0][severity, 3]
        ax.set_title(f"{kind}\n{value:.2f}" if severity == 0 else f"{value:.2f}", fontsize=9)
        ax.axis("off")
STYLES = {"blur": ("#0072B2", "o-"), "noise": ("#D55E00", "s--"), "compression": ("#009E73", "^-.")}
for ax, measure in zip(right.subplots(2, 1, sharex=True), ("total", "epistemic")):
    for shift, (kind, (colour, style)) in enumerate(STYLES.items()):
        low, middle, high = np.quantile(shown[measure, kind][0], [0.25, 0.5, 0.75], axis=1)
        place = np.arange(6) + 0.08 * (shift - 1)
        ax.errorbar(place, middle, [middle - low, high - middle], fmt=style, color=colour,
                    capsize=2, ms=4, label=kind)  # fmt: skip
    ax.set(ylabel=f"{measure}, nats")
ax.set(xlabel="severity")
right.axes[0].legend()
figure.set_label(
    "Left: one digit under six severities of blur, noise and compression, with its uncertainty. "
    "Right: total and epistemic uncertainty against the severity; both rise clearly with blur, "
    "and less with noise and compression."
)
if sys.argv[1:]:
    figure.savefig(sys.argv[1], dpi=80)
plt.show()
