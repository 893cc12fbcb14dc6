"""
Two moons with eight labels
===========================

Four points of each moon have a label, the other 392 have none. A network that learns from the
labels only is certain nearly everywhere, although eight points cannot say where one moon ends and
the other begins. `MeanTeacher` also sees the points without a label. Where its boundary runs
through them, noise makes student and teacher disagree, and the student becomes less sure there. The
boundary itself hardly moves: the gain is in the probabilities, not in the accuracy.
"""

# %%
# The points without a label have y = −1.

import sys

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import make_moons

from skuq import TorchClassifier
from skuq.metrics import negative_log_likelihood
from skuq.posteriors import MCDropout
from skuq.semi_supervised import MeanTeacher

torch.set_num_threads(1)  # the network is small
X, truth = make_moons(400, noise=0.1, random_state=0)
X_test, y_test = make_moons(1000, noise=0.1, random_state=1)
y = np.full(len(X), -1)
for label in (0, 1):
    known = np.flatnonzero(truth == label)[:4]
    y[known] = label
labelled = y != -1

# %%
# The same network learns from eight points, and from all of them.

network = TorchClassifier(
    posterior=MCDropout(n_draws=30),
    module__hidden_layer_sizes=(64, 64),
    module__dropout=0.2,
    lr=5e-3,
    max_epochs=600,
    early_stopping=False,
    batch_size=200,
    random_state=0,
)
models = {
    "8 labels only": network.fit(X[labelled], y[labelled]),
    "mean teacher": MeanTeacher(network, consistency=10.0, noise=0.3).fit(X, y),
}

# %%
# The colour is the probability of the second moon, the line is where it is ½.

x0, x1 = np.meshgrid(np.linspace(-1.7, 2.7, 80), np.linspace(-1.2, 1.7, 60))
grid = np.column_stack([x0.ravel(), x1.ravel()])
figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained", sharey=True)
for ax, (name, model) in zip(axes, models.items()):
    proba = model.predict_proba(grid)[:, 1].reshape(x0.shape)
    shown = ax.contourf(x0, x1, proba, levels=np.linspace(0, 1, 21), cmap="RdBu_r", alpha=0.6)
    ax.contour(x0, x1, proba, levels=[0.5], colors="black")
    ax.scatter(*X[~labelled].T, s=6, color="0.35", label="without a label")
    for label, marker, colour in ((0, "o", "#0072B2"), (1, "s", "#D55E00")):
        ax.scatter(
            *X[y == label].T, s=70, marker=marker, color=colour, edgecolor="white", label=label
        )
    accuracy = model.score(X_test, y_test)
    nll = negative_log_likelihood(y_test, model.predict_proba(X_test))
    ax.set(title=f"{name}: accuracy {accuracy:.2f}, NLL {nll:.2f}", xlabel="x0", ylabel="x1")
    print(f"{name:15} accuracy {accuracy:.3f}   NLL {nll:.3f}")
axes[0].legend(loc="upper right")
figure.colorbar(shown, ax=axes, label="probability of label 1", ticks=[0, 0.5, 1])
figure.set_label(
    "Two maps of the probability that a point belongs to the second moon, over 392 small points "
    "without a label and eight with one. Left, the change from one side of the boundary to the "
    "other is abrupt; right, with the mean teacher, it is gradual where points lie across it."
)
if sys.argv[1:]:
    figure.savefig(sys.argv[1], dpi=110)
plt.show()
