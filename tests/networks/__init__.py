"""Modules as users write them."""

import torch
import torch.nn.functional as F
from torch import nn


class Plain(nn.Module):
    """No dropout at all."""

    def __init__(self, n_features, n_outputs, width=16):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features, width), nn.ReLU(), nn.Linear(width, n_outputs)
        )

    def forward(self, x):
        return self.layers(x)


class ConvNet(nn.Module):
    """BatchNorm in the trunk, dropout in the head."""

    def __init__(self, n_outputs, channels=4, p=0.3):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(),
            nn.MaxPool2d(2), nn.Flatten(),
        )  # fmt: skip
        self.head = nn.Sequential(
            nn.Linear(channels * 16, 16), nn.ReLU(), nn.Dropout(p), nn.Linear(16, n_outputs)
        )

    def forward(self, x):
        return self.head(self.trunk(x))


class EarlyConvNet(nn.Module):
    """Dropout of whole channels, then BatchNorm."""

    def __init__(self, n_outputs, p=0.3):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.Dropout2d(p), nn.BatchNorm2d(4), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, n_outputs),
        )  # fmt: skip

    def forward(self, x):
        return self.layers(x)


class ResidualNet(nn.Module):
    """One dropout layer, used at several places."""

    def __init__(self, n_features, n_outputs, width=16, p=0.2):
        super().__init__()
        self.inner = nn.Linear(n_features, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.dropout = nn.Dropout(p)
        self.outer = nn.Linear(width, n_outputs)

    def forward(self, x):
        x = self.inner(x)
        for block in self.blocks:
            x = x + self.dropout(torch.relu(block(x)))
        return self.outer(x)


class Recurrent(nn.Module):
    """An LSTM, with dropout before or after it."""

    def __init__(self, n_outputs, n_inputs=8, before=True, p=0.3):
        super().__init__()
        self.before = before
        self.lstm = nn.LSTM(n_inputs, 8, batch_first=True)
        self.dropout = nn.Dropout(p)
        self.head = nn.Linear(8, n_outputs)

    def forward(self, x):
        if self.before:
            x = self.dropout(x)
        x = self.lstm(x)[0][:, -1]
        return self.head(x if self.before else self.dropout(x))


class Transformer(nn.Module):
    """Stock encoder layers, mean over the sequence."""

    def __init__(self, n_outputs, n_inputs=8, batch_first=True, p=0.1):
        super().__init__()
        self.batch_first = batch_first
        layer = nn.TransformerEncoderLayer(
            n_inputs, nhead=2, dim_feedforward=16, dropout=p, batch_first=batch_first
        )
        self.encoder = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)
        self.head = nn.Linear(n_inputs, n_outputs)

    def forward(self, x):
        if not self.batch_first:
            x = x.transpose(0, 1)
        x = self.encoder(x)
        return self.head(x.mean(1 if self.batch_first else 0))


class Functional(nn.Module):
    """Dropout as a function: skuq cannot draw it."""

    def __init__(self, n_features, n_outputs, layer_too=False):
        super().__init__()
        self.a, self.b = nn.Linear(n_features, 16), nn.Linear(16, n_outputs)
        self.dropout = nn.Dropout(0.2) if layer_too else nn.Identity()

    def forward(self, x):
        return self.b(self.dropout(F.dropout(torch.relu(self.a(x)), 0.5, self.training)))


class Head(nn.Module):
    """A head on a body that the user made elsewhere."""

    def __init__(self, body, n_outputs):
        super().__init__()
        self.body, self.head = body, nn.Linear(body.out_features, n_outputs)

    def forward(self, x):
        return self.head(torch.relu(self.body(x)))


class WithSoftmax(Plain):
    def __init__(self, n_features, n_outputs, log=False):
        super().__init__(n_features, n_outputs)
        self.log = log

    def forward(self, x):
        z = super().forward(x)
        return z.log_softmax(1) if self.log else z.softmax(1)


class Normed(Plain):
    """A layer whose weight hooks or parametrisations compute."""

    def __init__(self, n_features, n_outputs, norm):
        super().__init__(n_features, n_outputs)
        norm(self.layers[0])
