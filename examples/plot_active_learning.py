"""
What to label next?
===================

A network learns scikit-learn's digits from very few labels, and asks for more. The queries differ
in what they ask for: random digits, those between two classes (margin), those that are far from all
labelled ones (core-set), or those on which the draws disagree (BALD). The left picture shows the
digits that were asked for, the right one the learning curves.

Takes half a minute. The picture of the docs is made by
``python examples/plot_active_learning.py docs/active_learning.png``.
"""

# %%
# Two thirds of the digits are the pool; their labels are hidden until a query asks for them.

from __future__ import annotations

import sys
import warnings

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from skuq import TorchClassifier
from skuq.active_learning import ActiveLearner, compare_queries
from skuq.posteriors import MCDropout

warnings.simplefilter("ignore", ConvergenceWarning)  # training is short here

X, y = load_digits(return_X_y=True)
X, X_test, y, y_test = train_test_split(
    (X / 16).astype("float32"), y, train_size=1200, random_state=0
)
network = TorchClassifier(
    posterior=MCDropout(20), module__hidden_layer_sizes=(64,), early_stopping=False,
    lr=5e-3, batch_size=64, max_epochs=60,
)  # fmt: skip
names = {"random": "random", "margin": "margin", "core_set": "core-set", "bald": "BALD"}

# %%
# Five times, each query begins with the same 20 labels and asks for ten more, eight times.

comparison = compare_queries(
    network, list(names), X, y, X_test, y_test,
    n_seeds=5, batch_size=10, n_rounds=8, initial=20, random_state=0,
)  # fmt: skip
print(comparison.summary()[["area", "difference", "standard_error", "verdict"]].round(3))

# %%
# The digits that the first round asked for, and their labels. The scores of margin and BALD know
# nothing of each other, so a batch may ask the same thing several times; core-set spreads.

figure = plt.figure(figsize=(11, 4.2), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[1.15, 1])
axes = left.subplots(len(names), 10)
for row, (query, title) in zip(axes, names.items()):
    learner = ActiveLearner(network, query, n_rounds=1, random_state=1).simulate(
        X, y, X_test, y_test
    )
    for ax, place in zip(row, learner.rounds_[0]["asked"]):
        ax.imshow(X[place].reshape(8, 8), cmap="Greys")
        ax.set(xticks=[], yticks=[])
        ax.set_title(y[place], fontsize=8, pad=2)
    row[0].set_ylabel(title, rotation=0, ha="right", va="center")
left.suptitle("asked for in the first round", fontsize=11)

display = comparison.plot(list(names), ax=right.subplots(), score_name="accuracy on test digits")
display.ax_.set_title("means of five runs, with standard errors", fontsize=11)

figure.set_label(
    "Left: ten digits that each of four queries asks for in the first round. Right: accuracy "
    "against the number of labels, from 20 to 100; core-set and margin lie above BALD and a "
    "random choice."
)
if sys.argv[1:]:
    figure.savefig(sys.argv[1], dpi=90)
plt.show()
