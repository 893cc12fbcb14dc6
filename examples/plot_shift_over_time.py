"""
When did the world change? A stream of labelled digits
======================================================

skuq's ``shift_test`` compares two sets of rows, once: a test that is repeated every day raises a
false alarm sooner or later. A martingale, here one of MAPIE's, may be looked at after each row:
with probability 1 − level it never rises above 1 / level while rows are exchangeable. It needs
labels, which may arrive late. Needs the extra ``conformal``; takes about ten seconds.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
import torch
from mapie.classification import SplitConformalClassifier
from mapie.exchangeability_testing import OnlineMartingaleTest
from sklearn.datasets import load_digits

from skuq import TorchClassifier
from skuq.shift import corrupt

torch.set_num_threads(1)  # the networks are small
LEVEL, CHANGE = 0.01, 500

# %%
# A network, and the rows that come later.

X, y = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(X))
X, y = X[order] / 16, y[order]
network = TorchClassifier(max_epochs=30, lr=5e-3, random_state=0).fit(X[:600], y[:600])
stream, labels = X[600:1600], y[600:1600]

# %%
# From row 500 on the digits are noisy. The noisier they are, the sooner the alarm; without noise
# there is none.

figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for severity in (0, 2, 3, 4):
    rows = stream.copy()
    rows[CHANGE:] = corrupt(stream[CHANGE:], "gaussian_noise", severity, image_shape=(8, 8))
    watch = OnlineMartingaleTest(
        SplitConformalClassifier(network, prefit=True),
        test_level=LEVEL, warn=False, random_state=0,
    )  # fmt: skip
    for start in range(0, len(rows), 100):  # labels arrive in batches
        watch.update(rows[start : start + 100], labels[start : start + 100])
    values = np.array(watch.martingale_value_history)
    alarm = np.flatnonzero(values > 1 / LEVEL)
    when = f"alarm {alarm[0] - CHANGE} rows after the change" if len(alarm) else "no alarm"
    print(f"noise of severity {severity} from row {CHANGE} on: {when}")
    ax.semilogy(values, label=f"severity {severity}")
ax.axhline(1 / LEVEL, color="0.3", linestyle=":", label=f"alarm, level {LEVEL:.0%}")
ax.axvline(CHANGE, color="0.7", linewidth=1)
ax.set(xlabel="row", ylabel="martingale", title="Evidence that the world has changed")
ax.legend()
figure.set_label(
    "Four martingales over a thousand rows, on a logarithmic axis. After the change at row 500 "
    "those of noisy digits rise above the line of the alarm, the noisiest first."
)

if sys.argv[1:]:
    figure.savefig(sys.argv[1], dpi=100)
else:
    plt.show()
