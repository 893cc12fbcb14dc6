"""
Refusing with a guarantee, and who is refused
=============================================

A network reads digits. Where it is unsure it may say no, so that among the answers at most 2 % are
wrong. Takes about ten seconds.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split

from skuq import TorchClassifier
from skuq.metrics import risk_coverage_curve
from skuq.posteriors import DeepEnsemble
from skuq.selective import SelectiveClassifier

torch.set_num_threads(1)  # the networks are small
TARGET = 0.02

# %%
# Rows for three purposes: some train the network, some choose the threshold, some are new.

X, y = load_digits(return_X_y=True)
X_train, X_rest, y_train, y_rest = train_test_split(X / 16, y, train_size=300, random_state=0)
X_choose, X_new, y_choose, y_new = train_test_split(X_rest, y_rest, test_size=0.5, random_state=0)
network = TorchClassifier(posterior=DeepEnsemble(), max_epochs=30, lr=5e-3, random_state=0)
network.fit(X_train, y_train)

# %%
# Three ways to certify
# ---------------------
# The first two bound the risk of the accepted rows with 95 % confidence. The third promises less, a
# mean over calibration sets, and refuses less.

found = {}
print(f"{'':22}{'certified':>10}{'coverage':>10}{'risk':>8}{'bound':>8}", end="")
print(f"{'new: coverage':>15}{'risk':>8}")
for name, method in {
    "fixed sequence": "fixed_sequence",
    "SGR": "sgr",
    "expected joint risk": "crc",
}.items():
    selective = SelectiveClassifier(FrozenEstimator(network), target_risk=TARGET, method=method)
    found[name] = selective.fit(X_choose, y_choose)
    new = selective.report(X_new, y_new).overall
    print(
        f"{name:22}{selective.certified_!s:>10}{selective.coverage_:10.3f}"
        f"{selective.risk_:8.4f}{selective.bound_:8.4f}{1 - new.refused:15.3f}{new.risk:8.4f}"
    )

# %%
# Who is refused?
# ---------------
# The promise is about all digits together. Some are refused far more often than others.

best = found["fixed sequence"]
refusals = best.report(X_new, y_new)
print(refusals)

# %%
# At the left, the risk on the calibration rows against the share that is answered, and the
# thresholds of the three ways. At the right, the shares that are refused, with 95 % intervals.

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
curve = risk_coverage_curve(
    y_choose, network.predict(X_choose), network.predict_uncertainty(X_choose)
)
left.plot(curve.coverage, curve.risk, color="0.3", label="calibration rows")
left.axhline(TARGET, color="tab:red", linestyle=":", label=f"target, {TARGET:.0%}")
for (name, selective), marker in zip(found.items(), "osD"):
    left.plot(selective.coverage_, selective.risk_, marker, markersize=9, label=name)
left.annotate(
    "certified:\nrisk of new rows ≤ 2 %,\n95 % sure",
    (best.coverage_, best.risk_),
    xytext=(0.3, 0.028),
    arrowprops={"arrowstyle": "->", "color": "0.3"},
)
left.set(xlabel="coverage: share that is answered", ylabel="risk: share of wrong answers")
left.set(xlim=(0, 1.02), ylim=(0, None), title="A threshold that holds its promise")
left.legend(loc="upper left")

names, rates = list(refusals.by_class), list(refusals.by_class.values())
refused = np.array([rate.refused for rate in rates])
low, high = (np.array([getattr(r, f"refused_{end}") for r in rates]) for end in ("low", "high"))
errors = np.clip([refused - low, high - refused], 0, None)
right.bar(names, refused, color="tab:blue", alpha=0.6, yerr=errors, capsize=3)
right.axhline(refusals.overall.refused, color="0.3", linestyle=":", label="all")
right.set(xlabel="true digit", ylabel="share that is refused", title="Who is refused")
right.set_xticks(names)
right.legend()
figure.set_label(
    "Left: a risk-coverage curve with a marked point below the target of 2 %. Right: bars of the "
    "share of each digit that is refused; they differ several times."
)

if sys.argv[1:]:
    figure.savefig(sys.argv[1], dpi=100)
else:
    plt.show()
