"""
Texts: a small transformer that knows what it cannot read
=========================================================

A transformer, trained here, reads questions to a clinic and sends them to one of three desks. It
gets token ids and an attention mask, and returns an object with logits, as the models of
transformers do. Some later questions are of another kind, which it has never seen: it should refuse
these.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import Tensor, nn

import skuq
from skuq import Inputs, TorchClassifier
from skuq.posteriors import DeepEnsemble
from skuq.selective import SelectiveClassifier

torch.set_num_threads(1)  # the networks are small

# %%
# Sentences are made of parts. About a sixth could go to two desks: a part of the risk that no data
# remove. The last kind, about cars, never occurs in training.

SUBJECTS = {
    "bills": ["my bill", "the invoice", "the refund", "my payment", "the charge"],
    "visits": ["my visit", "the appointment", "my check", "the date", "my slot"],
    "drugs": ["my tablets", "the dose", "the cream", "my syrup", "the prescription"],
}
VERBS = {
    "bills": ["is too high", "was paid twice", "has the wrong sum", "never reached me"],
    "visits": ["must move to monday", "is too late", "was cancelled", "needs another hour"],
    "drugs": ["makes me tired", "does not help", "ran out", "tastes strange"],
}
OPENINGS = ["hello", "please help", "a question", "good morning", "dear team", "hi there"]
ENDINGS = [
    "since monday",
    "again",
    "what now",
    "thank you",
    "after all",
    "call me",
    "why",
    "for weeks",
]
CARS = ["my engine", "the gearbox", "the left tyre", "my clutch", "the brakes"]
FAULTS = ["leaks oil", "rattles loudly", "overheats uphill", "squeals downhill"]
random = np.random.default_rng(0)


def sentences(n: int) -> tuple[list[str], np.ndarray]:
    """Write sentences and their desks."""
    found: dict[str, str] = {}
    while len(found) < n:
        desk, other = random.choice(list(SUBJECTS), 2, replace=False)
        verbs = VERBS[other if random.random() < 0.25 else desk]
        parts = [random.choice(OPENINGS), random.choice(SUBJECTS[desk]), random.choice(verbs)]
        parts = parts if random.random() < 0.7 else parts[1:]
        clear = parts[-1] in VERBS[desk]
        found[" ".join([*parts, random.choice(ENDINGS)])] = (
            desk if clear or random.random() < 0.5 else other
        )
    return list(found), np.array(list(found.values()))


texts, desks = sentences(1600)
train, choose, new = texts[:600], texts[600:1000], texts[1000:]
y_train, y_choose, y_new = desks[:600], desks[600:1000], desks[1000:]
cars = [
    f"{random.choice(OPENINGS)} {random.choice(CARS)} {random.choice(FAULTS)}" for _ in range(200)
]

# %%
# The tokenizer gives each word of the training texts a number, and 1 to all other words. Rows have
# several lengths: `skuq.Inputs` pads them in each batch and makes the attention mask.

WORDS = sorted({word for text in train for word in text.split()})
NUMBER = {word: number for number, word in enumerate(WORDS, start=2)}


def tokenise(texts: list[str]) -> Inputs:
    """Make token ids."""
    return Inputs(input_ids=[[NUMBER.get(word, 1) for word in text.split()] for text in texts])


# %%
# The module: embeddings of words and places, a layer of attention, and the mean over what the mask
# shows.


@dataclass
class Output:
    """What the module returns."""

    logits: Tensor


class Transformer(nn.Module):
    """A small encoder in the style of transformers."""

    def __init__(self, n_outputs: int, n_tokens: int, width: int = 32) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(n_tokens, width), nn.Embedding(16, width)
        self.encoder = nn.TransformerEncoderLayer(width, 4, 64, dropout=0.0, batch_first=True)
        self.head = nn.Linear(width, n_outputs)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Output:
        x = self.words(input_ids) + self.places.weight[: input_ids.shape[-1]]
        x = self.encoder(x, src_key_padding_mask=attention_mask == 0)
        shown = attention_mask[..., None].to(x.dtype)
        return Output(self.head((x * shown).sum(-2) / shown.sum(-2)))


# %%
# A Pipeline from texts to desks, with five networks whose disagreement is the epistemic part.

network = TorchClassifier(
    Transformer,
    module__n_tokens=len(WORDS) + 2,
    posterior=DeepEnsemble(5),
    max_epochs=30,
    lr=3e-3,
    random_state=0,
)
model = make_pipeline(FunctionTransformer(tokenise), network).fit(train, y_train)
print(f"accuracy on new sentences: {model.score(new, y_new):.3f}")

# %%
# The refusal looks at the epistemic part: on other sentences, it finds the threshold that answers
# 95 % of them.

refusing = SelectiveClassifier(
    FrozenEstimator(model), coverage=0.95, uncertainty="epistemic", reject_label="a person"
).fit(choose, y_choose)
for name, texts in (("new sentences", new), ("about cars", cars)):
    print(f"{name}: {1 - refusing.accept(texts).mean():.0%} refused")
for text in (new[0], cars[0]):
    print(f"{text!r} goes to {refusing.predict([text])[0]}")

# %%
# What nobody can know (a sentence that fits two desks) is aleatoric; what the networks have not
# seen (cars) is epistemic.


def fits_one_desk(text: str) -> bool:
    """Return whether the subject and the verb of a sentence belong to one desk."""
    return any(
        any(subject in text for subject in SUBJECTS[desk]) and any(v in text for v in VERBS[desk])
        for desk in SUBJECTS
    )


figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", sharey=True)
groups = {
    "fits one desk": [text for text in new if fits_one_desk(text)],
    "fits two desks": [text for text in new if not fits_one_desk(text)],
    "about cars": cars,
}
for axis, kind in zip(axes, ("aleatoric", "epistemic")):
    values = [skuq.predict_uncertainty(model, texts, kind=kind) for texts in groups.values()]
    parts = axis.violinplot(values, showmedians=True, showextrema=False)
    for body, colour in zip(parts["bodies"], ("#0072B2", "#009E73", "#D55E00")):
        body.set_facecolor(colour)
        body.set_alpha(0.6)
    parts["cmedians"].set_color("black")
    axis.set_title(kind)
    axis.set_xticks([1, 2, 3], list(groups))
axes[0].set_ylabel("uncertainty (nats)")
axes[0].set_ylim(bottom=0)
figure.suptitle("A transformer on sentences of its own kind, and of another")
figure.set_label(
    "Shapes of the distributions of both uncertainties for three kinds of sentences. Those that "
    "fit two desks and those about cars have aleatoric uncertainty; the epistemic part is by far "
    "the largest for those about cars."
)
if sys.argv[1:]:
    figure.savefig(sys.argv[1], dpi=150)
plt.show()
