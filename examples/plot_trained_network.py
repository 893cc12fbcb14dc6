"""
The uncertainty of a network that is trained already
====================================================

A small convolutional network is trained on digits by a loop in plain torch. ``skuq.from_trained``
makes an estimator of it, with the Laplace approximation of its last layer, and trains nothing. Its
predictions hardly change; what it gains is the epistemic uncertainty, which is larger on images
that are no digits: halves of two different digits side by side, and digits whose grey levels are
inverted.

Takes about ten seconds. The picture of the docs is made by
``python examples/plot_trained_network.py docs/trained_network.png``.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import train_test_split
from torch import nn

import skuq
from skuq.posteriors import PointEstimate

torch.set_num_threads(1)  # networks as small as these train fastest so
COLORS = {"digits": "#7a9cc6", "halves": "#f0a030", "inverted": "#a03060"}

# %%
# A loop that knows nothing of skuq
# ---------------------------------

images, labels = load_digits(return_X_y=True)
images = (images / 16).reshape(-1, 1, 8, 8).astype(np.float32)
X, X_test, y, y_test = train_test_split(images, labels, test_size=0.5, random_state=0)

torch.manual_seed(0)
network = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10),
)  # fmt: skip
optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
for _ in range(40):
    for batch in torch.randperm(len(X)).split(64):
        optimizer.zero_grad()
        output = network(torch.tensor(X)[batch])
        nn.functional.cross_entropy(output, torch.tensor(y)[batch]).backward()
        optimizer.step()

# %%
# Around the network
# ------------------
# One call for the network as it was, one with a posterior for its last layer.

options = {"task": "classification", "random_state": 0}
plain = skuq.from_trained(network, X, y, posterior=PointEstimate(), **options)
model = skuq.from_trained(network, X, y, **options)
print(model.network_)
for name, one in {"as it was": plain, "LastLayerLaplace()": model}.items():
    loss = log_loss(y_test, one.predict_proba(X_test))
    print(f"{name:20} accuracy {one.score(X_test, y_test):.3f}, log loss {loss:.3f}")

# %%
# Images that are no digits
# -------------------------

other = np.random.default_rng(0).permutation(len(X_test))
halves = np.concatenate([X_test[..., :4], X_test[other][..., 4:]], axis=-1)[y_test != y_test[other]]
shown = {"digits": X_test, "halves": halves, "inverted": 1 - X_test}
epistemic = {name: model.predict_uncertainty(X, kind="epistemic") for name, X in shown.items()}
total = {name: plain.predict_uncertainty(X) for name, X in shown.items()}
print("tells them from digits, AUROC:")
for name in ("halves", "inverted"):
    is_strange = np.repeat([0, 1], [len(X_test), len(shown[name])])
    old, new = (
        roc_auc_score(is_strange, np.concatenate([of["digits"], of[name]]))
        for of in (total, epistemic)
    )
    print(f"{name:20} entropy as it was {old:.3f}, epistemic {new:.3f}")

# %%
# Histograms, and for each kind images of median uncertainty and above.

figure = plt.figure(figsize=(8, 3.4), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[1.25, 1])
ax = left.subplots()
bins = np.geomspace(1e-4, max(map(np.max, epistemic.values())), 31)
for name, values in epistemic.items():
    ax.hist(
        values.clip(bins[0]), bins, weights=np.full(len(values), 1 / len(values)),
        histtype="step", lw=2, color=COLORS[name], label=name,
    )  # fmt: skip
ax.set(xscale="log", xlabel="epistemic uncertainty, nats", ylabel="share of the images")
ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False)
for row, (name, pictures) in zip(right.subplots(3, 4), shown.items()):
    median = np.argsort(epistemic[name])[len(pictures) // 2 :][:4]
    for one, index in zip(row, median):
        one.imshow(pictures[index, 0], cmap="gray_r", vmin=0, vmax=1)
        one.set(xticks=[], yticks=[])
    row[0].set_ylabel(name, color=COLORS[name])
figure.set_label(
    "Histograms of the epistemic uncertainty of digits, of halves of two digits, and of inverted "
    "digits: the strange images have ten to a hundred times that of digits."
)

if sys.argv[1:]:
    figure.savefig(sys.argv[1], dpi=100)
else:
    plt.show()
