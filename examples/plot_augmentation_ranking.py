"""
Which augmented images are worth training on?
=============================================

From every training image one can make many, by turning and moving it a little. Not all of them
teach. This example ranks them by the epistemic uncertainty of an ensemble, keeps some, trains
again, and measures whether that helped. One in four of the images made here is turned by 90 to 270
degrees, which leaves the data: a 6 is then a 9 with the label 6. A `NoveltyDetector` is to keep
those out.

The digits of scikit-learn are upright and centred, and stay so when the network is asked, or not:
both are measured.

It takes about 30 seconds.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy import ndimage
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split

from skuq import TorchClassifier
from skuq.novelty import NoveltyDetector
from skuq.posteriors import DeepEnsemble

torch.set_num_threads(1)  # networks as small as these train fastest so
X, y = load_digits(return_X_y=True)
X = X.astype(np.float32) / 16
SEEDS, N_TRAIN, N_VARIANTS, N_KEPT = range(6), 100, 6, 200

# %%
# The images: turned by up to 25 degrees and moved by up to one pixel; and a quarter of them turned
# by much more.


def variant(row, random, wild):
    angle = random.uniform(90, 270) if wild else random.uniform(-25, 25)
    image = ndimage.rotate(row.reshape(8, 8), angle, reshape=False)
    return ndimage.shift(image, random.uniform(-1, 1, 2)).clip(0, 1).ravel()


def variants(rows, labels, n, random, share_wild=0.25):
    wild = random.random(n * len(rows)) < share_wild
    made = [variant(row, random, w) for row, w in zip(np.tile(rows, (n, 1)), wild)]
    return np.array(made, dtype=np.float32), np.tile(labels, n), wild


def ensemble(seed):
    return TorchClassifier(
        posterior=DeepEnsemble(3), module__hidden_layer_sizes=(64, 64), lr=5e-3, max_epochs=40,
        batch_size=64, device="cpu", random_state=seed,
    )  # fmt: skip


# %%
# The ways to choose 200 of the 600 images. The detector knows the features of the 100 training
# images; "known" images are the less novel half. Then an ensemble is trained on the 100 and the
# chosen ones.


def choices(uncertainty, novelty, random):
    order = np.argsort(-uncertainty)
    known = novelty <= np.median(novelty)
    return {
        "none": [],
        "at random": random.permutation(len(order))[:N_KEPT],
        "least uncertain": order[-N_KEPT:],
        "most uncertain": order[:N_KEPT],
        "known, at random": random.permutation(np.flatnonzero(known))[:N_KEPT],
        "known, most uncertain": order[known[order]][:N_KEPT],
        "all 600": np.arange(len(order)),
    }


found, shown = {}, None
for seed in SEEDS:
    random = np.random.default_rng(seed)
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, train_size=N_TRAIN, test_size=1000, stratify=y, random_state=seed
    )
    moved, _, _ = variants(X_test, y_test, 1, random, share_wild=0)
    first = ensemble(seed).fit(X_train, y_train)
    new, labels, wild = variants(X_train, y_train, N_VARIANTS, random)
    uncertainty = first.predict_uncertainty(new, kind="epistemic")
    detector = NoveltyDetector(FrozenEstimator(first)).fit(X_train, y_train)
    novelty = detector.predict_novelty(new)
    for name, chosen in choices(uncertainty, novelty, random).items():
        chosen = np.asarray(chosen, dtype=int)
        model = first
        if len(chosen):
            rows = np.concatenate([X_train, new[chosen]])
            model = ensemble(seed).fit(rows, np.concatenate([y_train, labels[chosen]]))
        share = wild[chosen].mean() if len(chosen) else np.nan
        scores = model.score(X_test, y_test), model.score(moved, y_test), share
        found.setdefault(name, []).append(scores)
    if seed == 0:
        shown = new, labels, uncertainty, novelty

# %%
# Accuracy on test digits as they are, and turned and moved as in training (not wildly); then the
# share of wildly turned images among the chosen ones. Means ± standard errors over the seeds.


def cell(values):
    return f"{np.mean(values):.4f} ± {np.std(values, ddof=1) / len(values) ** 0.5:.4f}"


print(f"{len(SEEDS)} seeds".ljust(24) + f"{'digits':>18}{'moved digits':>18}{'wild':>8}")
for name, rows in found.items():
    plain, moved_score, share = np.transpose(rows)
    print(name.ljust(24) + f"{cell(plain):>18}{cell(moved_score):>18}{share.mean():>8.2f}")
for name, base in (("least uncertain", "at random"), ("most uncertain", "at random"),
                   ("known, most uncertain", "known, at random")):  # fmt: skip
    a, b = (np.transpose(found[n]) for n in (name, base))
    print(f"{name} − {base}, same seed: {cell(a[0] - b[0])}, moved {cell(a[1] - b[1])}")

# %%
# The picture: images that were made, by rank, with the label and the epistemic uncertainty in nats.

new, labels, uncertainty, novelty = shown
order, known = np.argsort(-uncertainty), novelty <= np.median(novelty)
lists = {"most uncertain": order, "most uncertain of the known": order[known[order]],
         "least uncertain": order[::-1]}  # fmt: skip
figure = plt.figure(figsize=(9, 4.2), layout="constrained")
for part, (name, ranks) in zip(figure.subfigures(3, 1), lists.items()):
    part.suptitle(name, fontsize="medium")
    for ax, i in zip(part.subplots(1, 12), ranks):
        ax.imshow(new[i].reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        ax.set_title(f"{labels[i]}: {uncertainty[i]:.2f}", fontsize=8)
        ax.axis("off")
figure.set_label(
    "Three rows of twelve augmented digits: the most uncertain, the most uncertain among those "
    "that are not novel, and the least uncertain, which are all fours."
)
if sys.argv[1:]:
    figure.savefig(sys.argv[1], dpi=80)
plt.show()
