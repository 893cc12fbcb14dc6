"""Modules of several inputs, in the style of transformers, and rows for them."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn


@dataclass
class Output:
    logits: Tensor


class BagOfTokens(nn.Module):
    """The mean embedding of what the mask shows; returns an object with logits."""

    def __init__(self, n_outputs, n_tokens=20, width=8):
        super().__init__()
        self.embed = nn.Embedding(n_tokens, width)
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(width, n_outputs)

    def forward(self, input_ids, attention_mask):
        shown = attention_mask[..., None].to(self.head.weight.dtype)
        mean = (self.embed(input_ids) * shown).sum(-2) / shown.sum(-2)
        return Output(self.head(self.dropout(mean)))


class WordAndImage(nn.Module):
    """An image, a table and a word: three inputs by position."""

    def __init__(self, n_outputs):
        super().__init__()
        self.words = nn.Embedding(5, 3)
        self.head = nn.Linear(3 * 4 * 4 + 2 + 3, n_outputs)

    def forward(self, image, table, word):
        assert image.shape[-3:] == (3, 4, 4) and word.dtype == torch.int64
        return self.head(torch.cat([image.flatten(-3), table, self.words(word)], dim=-1))


def ragged_rows(n=40, seed=0):
    """Sequences of several lengths, whose label says whether most tokens are above 10."""
    random = np.random.default_rng(seed)
    rows = [random.integers(1, 20, size=random.integers(2, 8)) for _ in range(n)]
    return rows, np.array([int(np.mean(row > 10) > 0.5) for row in rows])


def padded(rows, length=None):
    """The same as ids and a mask."""
    length = length or max(map(len, rows))
    ids = np.zeros((len(rows), length), dtype=int)
    mask = np.zeros((len(rows), length), dtype=int)
    for k, row in enumerate(rows):
        ids[k, : len(row)], mask[k, : len(row)] = row, 1
    return {"input_ids": ids, "attention_mask": mask}
