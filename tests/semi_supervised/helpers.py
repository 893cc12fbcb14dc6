"""What the tests of the mean teacher share."""

import numpy as np
import torch
from torch import nn

from skuq import TorchClassifier
from skuq.posteriors import PointEstimate

STEPS = {"optimizer": torch.optim.SGD, "lr": 0.5, "precision": "float64", "random_state": 0}


class Linear(nn.Linear):
    """Logits that are linear in x."""

    def __init__(self, n_features, n_outputs):
        super().__init__(n_features, n_outputs)


def data(n_rows=60, n_labelled=20, seed=0):
    """Rows of two classes, most of them with the label −1; also all labels."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(n_rows, 3))
    truth = (X @ [1.0, -1.0, 0.5] + 0.3 * random.normal(size=n_rows) > 0).astype(int)
    y = np.where(np.arange(n_rows) < n_labelled, truth, -1)
    return X, y, truth


def classifier(posterior=None, **options):
    options = {
        "module__hidden_layer_sizes": (6,), "max_epochs": 4, "lr": 0.01, "batch_size": 8,
        "random_state": 0, **options,
    }  # fmt: skip
    return TorchClassifier(posterior=posterior or PointEstimate(), **options)


def weights(estimator):
    """All tensors of the draws' network, as one vector."""
    return torch.cat([t.flatten().double() for t in estimator.module_.state_dict().values()])
