"""
Digits, and inputs that are none: search, calibrate, ask
========================================================

A stock scikit-learn ``Pipeline`` goes through a stock ``GridSearchCV`` that chooses between
posteriors. One temperature then calibrates the winner, and beside it the same network alone. The
table and the pictures compare them on digits that were not learnt from, and on two kinds of images
that are no digits:

* halves: the left half of one digit beside the right half of a digit of another class. Each half
  looks as in the data; a few of the wholes do look like a digit.
* shuffled: the pixels of one digit in random order.

Only 300 digits are learnt from, so that there are errors to look at. It takes half a minute.
``make demo`` runs it; ``python examples/plot_digits.py digits.png`` writes three pictures, whose
names begin so.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

import skuq
from skuq import TorchClassifier
from skuq.calibration import TemperatureScaler
from skuq.metrics import ReliabilityDisplay, ece_scorer, expected_calibration_error
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate

torch.set_num_threads(1)  # networks as small as this one train fastest so
DARK, LIGHT = "#0b4f8a", "#f0a030"  # told apart by colour-blind readers and in greyscale

# %%
# Digits, and images that are none
# --------------------------------

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=300, stratify=y, random_state=0
)
random = np.random.default_rng(0)
other = random.permutation(len(X_test))
images = X_test.reshape(-1, 8, 8)
halves = np.concatenate([images[:, :, :4], images[other][:, :, 4:]], axis=2)
inputs = {
    "digits": X_test,
    "halves": halves.reshape(-1, 64)[y_test != y_test[other]],
    "shuffled": random.permuted(X_test, axis=1),
}

# %%
# The search
# ----------
# A posterior is a parameter like any other.

print(f"{len(X_train)} digits to learn from, {len(X_test)} to test on. Searching ...", flush=True)
network = TorchClassifier(lr=3e-3, max_epochs=100, device="cpu", random_state=0)
search = GridSearchCV(
    Pipeline([("scale", StandardScaler()), ("network", network)]),
    {
        "network__posterior": [PointEstimate(), MCDropout(), DeepEnsemble()],
        "network__module__dropout": [0.1, 0.4],
    },
    scoring={"nll": "neg_log_loss", "ece": ece_scorer},
    refit="nll",
    cv=StratifiedKFold(3, shuffle=True, random_state=0),
).fit(X_train, y_train)

results = search.cv_results_
print(f"\n{'posterior':<18}{'dropout':>8}{'NLL':>8}{'ECE':>8}{'fit, s':>8}")
for k in np.argsort(results["rank_test_nll"], kind="stable"):
    print(
        f"{results['param_network__posterior'][k]!s:<18}"
        f"{results['param_network__module__dropout'][k]:>8}"
        f"{-results['mean_test_nll'][k]:>8.3f}"
        f"{-results['mean_test_ece'][k]:>8.3f}"
        f"{results['mean_fit_time'][k]:>8.1f}"
    )

# %%
# Calibration
# -----------
# Cross-fitted: the temperature comes from rows that the network of the fold has not seen.

best = search.best_estimator_
alone = clone(best).set_params(network__posterior=PointEstimate()).fit(X_train, y_train)
winner = type(best["network"].posterior).__name__
folds = StratifiedKFold(5, shuffle=True, random_state=0)
pairs = {
    name: (pipeline, TemperatureScaler(pipeline, cv=folds).fit(X_train, y_train))
    for name, pipeline in {"one network": alone, winner: best}.items()
}
calibrated = pairs[winner][1]

# %%
# In numbers
# ----------
# Uncertainties are entropies in nats. A single network has no epistemic part, and is more certain
# of shuffled pixels than of digits: an AUROC far below one half.


def measure(model):
    """Return one column of the table."""
    proba, wrong = model.predict_proba(X_test), model.predict(X_test) != y_test
    parts = {name: skuq.predict_uncertainty(model, Z, kind="all") for name, Z in inputs.items()}
    digits = parts["digits"]
    certain = np.argsort(digits.total)[: int(0.8 * len(X_test))]
    column = {
        "temperature": getattr(model, "temperature_", 1.0),
        "accuracy": 1 - wrong.mean(),
        "accuracy, 80 % most certain": 1 - wrong[certain].mean(),
        "NLL": log_loss(y_test, proba),
        "ECE": expected_calibration_error(y_test, proba),
    }
    for name, uncertainty in parts.items():
        for kind, values in uncertainty._asdict().items():
            column[f"{name}, mean {kind}"] = values.mean()
    column["AUROC, total: errors"] = roc_auc_score(wrong, digits.total)
    for name in ("halves", "shuffled"):
        for kind in ("total", "epistemic"):
            values = [getattr(parts[inside], kind) for inside in ("digits", name)]
            is_strange = np.repeat([False, True], [len(values[0]), len(values[1])])
            column[f"AUROC, {kind}: {name}"] = roc_auc_score(is_strange, np.concatenate(values))
    return column


columns = [measure(model) for pair in pairs.values() for model in pair]
print(" " * 30 + "".join(f"{name:>24}" for name in pairs))
print(" " * 30 + f"{'plain':>12}{'calibrated':>12}" * len(pairs))
for row in columns[0]:
    print(f"{row:<30}" + "".join(f"{column[row]:>12.3f}" for column in columns))

# %%
# Reliability
# -----------
# Below the diagonal a model is too sure. The temperature brings both onto it.

reliability, axes = plt.subplots(1, 2, figsize=(10, 5.6), layout="constrained")
looks = {
    "plain": {"color": LIGHT, "linestyle": "-"},
    "calibrated": {"color": DARK, "linestyle": "--"},
}
for ax, (title, pair) in zip(axes, pairs.items()):
    for model, (name, look) in zip(pair, looks.items()):
        ReliabilityDisplay.from_estimator(
            model, X_test, y_test, name=name, ax=ax, linewidth=2, **look
        )
    ax.get_legend().set_title(title)
reliability.suptitle("Reliability on test digits (area of a dot: share of the digits)")
reliability.set_label(
    "Reliability diagrams of one network and of the winner, plain and calibrated: the plain single "
    "network lies below the diagonal."
)

# %%
# The epistemic part
# ------------------
# Shuffled pixels and halves have far more of it than digits, but not each of them.

epistemic, axes = plt.subplots(3, 1, figsize=(8, 6), sharex=True, layout="constrained")
lowest = 1e-5
levels = np.geomspace(lowest, np.log(10), 40)
for ax, (name, Z) in zip(axes, inputs.items()):
    values = skuq.predict_uncertainty(calibrated, Z, kind="epistemic")
    ax.hist(values.clip(lowest), levels, weights=np.full(len(Z), 1 / len(Z)), color=DARK)
    median = np.median(values)
    ax.axvline(median, color=LIGHT, linewidth=4)
    ax.set(title=f"{name}: median {median:.2g}", xscale="log")
axes[1].set_ylabel("share of the images")
axes[2].set_xlabel("epistemic uncertainty, nats (first bar: all below)")
epistemic.suptitle(f"Epistemic uncertainty, {winner}, calibrated (light line: median)")
epistemic.set_label(
    "Three histograms of the epistemic uncertainty on a logarithmic axis: digits far to the left, "
    "halves and shuffled pixels to the right."
)

# %%
# The most uncertain digits
# -------------------------
# Beside each, its probabilities; the light bar is the label.

proba, parts = calibrated.predict_proba(X_test), skuq.predict_uncertainty(calibrated, X_test, "all")
uncertain = plt.figure(figsize=(10, 5), layout="constrained")
for index, panel in zip(np.argsort(-parts.total), uncertain.subfigures(3, 4, wspace=0.08).flat):
    picture, bars = panel.subplots(1, 2)
    picture.imshow(X_test[index].reshape(8, 8), cmap="gray_r")
    picture.set(xticks=[], yticks=[])
    colors = np.where(np.arange(10) == y_test[index], LIGHT, DARK)
    bars.bar(range(10), proba[index], color=colors)
    bars.set(ylim=(0, 0.8), xticks=range(10), yticks=[0, 0.4, 0.8], box_aspect=1)
    bars.tick_params(labelsize=7)
    text = f"{parts.total[index]:.2f} nats, {parts.epistemic[index]:.2f} epistemic"
    panel.suptitle(text, fontsize=10)
uncertain.suptitle("The twelve most uncertain test digits (light bar: the label)")
uncertain.set_label("Twelve hardly legible digits, each beside bars of its ten probabilities.")

if sys.argv[1:]:
    path = Path(sys.argv[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    figures = {"reliability": reliability, "epistemic": epistemic, "most_uncertain": uncertain}
    for name, figure in figures.items():
        figure.savefig(path.with_stem(f"{path.stem}_{name}"), dpi=120)
        print(path.with_stem(f"{path.stem}_{name}"))
else:
    plt.show()
