"""Rows of several inputs, categories and tokens, and validation rows of the user."""

import numpy as np
import pytest
import torch
from torch import nn

from skuq import Inputs, TorchClassifier, TorchSegmenter
from skuq.augmentation import Flip
from skuq.posteriors import DeepEnsemble, PointEstimate
from skuq.semi_supervised import MeanTeacher
from skuq.semi_supervised._teacher import Teacher
from tests.semi_supervised.helpers import classifier, data


class Tokens(nn.Module):
    """Adds embeddings of tokens to a linear function of numbers."""

    def __init__(self, n_outputs=2):
        super().__init__()
        self.embedding, self.linear = nn.Embedding(10, n_outputs), nn.Linear(3, n_outputs)

    def forward(self, ids, numbers):
        return self.embedding(ids).mean(-2) + self.linear(numbers)


class OneArray(Tokens):
    """The same of one array, whose first column is a token."""

    def forward(self, x):
        return super().forward(x[..., :1].long(), x[..., 1:])


class Words(Tokens):
    """Whole rows are tokens."""

    def forward(self, x):
        return self.embedding(x.long()).mean(-2)


class Texts(Tokens):
    """Rows are tokens of several lengths."""

    def forward(self, ids, attention_mask):
        shares = attention_mask / attention_mask.sum(-1, keepdim=True)
        return (self.embedding(ids) * shares[..., None]).sum(-2)


@pytest.fixture
def moves(monkeypatch):
    """What the teacher added to the numbers of its rows."""
    seen = []

    def watched(self, x, n_draws, random, noisy=Teacher._noisy):
        result = noisy(self, x, n_draws, random)
        seen.append((result.unflatten(0, (n_draws, -1)) - x).flatten(0, 1))
        return result

    monkeypatch.setattr(Teacher, "_noisy", watched)
    return seen


def small(module, posterior=None):
    return TorchClassifier(
        module, posterior=posterior or PointEstimate(), max_epochs=2, batch_size=8, random_state=0
    )


def test_tokens_have_no_noise_and_numbers_have(moves):
    X, y, _ = data()
    ids = np.random.default_rng(0).integers(0, 10, (60, 2))
    rows = Inputs(ids=ids, numbers=X)
    taught = MeanTeacher(small(Tokens), noise=0.5).fit(rows, y)
    moved = torch.cat(moves)
    assert (moved[:, 3:] == 0).all()  # sequences come last
    np.testing.assert_allclose(moved[:, :3].std(0), 0.5 * 0.9595 * X[20:].std(0), rtol=0.2)
    by_dict = MeanTeacher(small(Tokens), noise=0.5).fit(rows.arrays, y)
    assert np.array_equal(by_dict.predict_proba(rows.arrays), taught.predict_proba(rows))
    assert by_dict.score(rows.arrays, y) == taught.score(rows[:20], y[:20])


@pytest.mark.parametrize("posterior", [PointEstimate(), DeepEnsemble(2)], ids=str)
def test_columns_that_an_embedding_reads_have_no_noise(moves, posterior):
    X, y, _ = data()
    ids = np.random.default_rng(0).integers(0, 10, (60, 1))
    MeanTeacher(small(OneArray, posterior)).fit(np.hstack([ids, X]), y)
    moved = torch.cat(moves)
    assert (moved[:, 0] == 0).all() and (moved[:, 1:].std(0) > 0.05).all()
    moves.clear()
    MeanTeacher(small(Words)).fit(np.hstack([ids, ids[::-1]]), y)
    assert (torch.cat(moves) == 0).all()


def test_rows_of_several_lengths(moves):
    random = np.random.default_rng(0)
    _, y, _ = data()
    # Rows without a label are longer.
    ids = [random.integers(1, 10, 3 if row < 20 else random.integers(4, 7)) for row in range(60)]
    taught = MeanTeacher(small(Texts)).fit(Inputs(ids=ids), y)
    assert (torch.cat([m.flatten() for m in moves]) == 0).all()
    assert taught.n_unlabelled_ == 40 and taught.predict_proba(Inputs(ids=ids)).shape == (60, 2)


def test_data_frames_with_categories(moves):
    pandas = pytest.importorskip("pandas")
    X, y, _ = data()
    frame = pandas.DataFrame(X, columns=["a", "b", "c"])
    frame.insert(0, "kind", ["u", "v"] * 30)
    frame.loc[50:, "kind"] = "new"  # only without a label: as in a prediction, a code of its own
    taught = MeanTeacher(classifier(max_epochs=2)).fit(frame, y)
    moved = torch.cat(moves)
    assert (moved[:, 3] == 0).all() and (moved[:, :3].std(0) > 0.05).all()  # categories come last
    assert taught.predict_proba(frame).shape == (60, 2)


def test_validation_rows_of_the_user():
    X, y, truth = data()
    estimator = classifier(max_epochs=60, n_iter_no_change=3, lr=0.1)
    fitted = MeanTeacher(estimator).fit(X[:50], y[:50], X_val=X[50:], y_val=truth[50:])
    last = fitted.estimator_.history_[-4]  # the best epoch, whose teacher is kept
    proba = fitted.predict_proba(X[50:])
    assert fitted.n_unlabelled_ == 30 and fitted.estimator_.n_iter_ < 60
    loss = -np.log(proba[np.arange(10), truth[50:]]).mean()
    assert last["valid_loss"] == pytest.approx(loss, rel=1e-5)
    weighted = MeanTeacher(estimator).fit(
        X[:50], y[:50], X_val=X[50:], y_val=truth[50:], sample_weight_val=np.arange(10.0)
    )
    assert (
        weighted.estimator_.history_[0]["valid_loss"] != fitted.estimator_.history_[0]["valid_loss"]
    )
    with pytest.raises(ValueError, match=r"y_val contains labels \[-1\]"):
        MeanTeacher(estimator).fit(X, y, X_val=X, y_val=y)
    with pytest.raises(ValueError, match="X_val needs targets"):
        MeanTeacher(estimator).fit(X, y, X_val=X)


def test_views_change_images_without_a_label(monkeypatch):
    """Both networks get the same view; places that a view has filled do not count."""
    random = np.random.default_rng(0)
    X = random.normal(size=(8, 1, 6, 6)).astype(np.float32)
    y = np.where(X[:, 0] > 0, 1, 0)
    y[4:] = 255
    seen, weights = [], []

    def watched(self, like, rows=Teacher._next_rows):
        seen.append(rows(self, like))
        return seen[-1]

    monkeypatch.setattr(Teacher, "_next_rows", watched)

    class Emptied(Flip):
        """Fills the first row of images and masks."""

        def of_mask(self, masks, generator):
            changed = super().of_mask(masks, generator).clone()
            changed[:, -1, 0] = 0
            return changed

    for view in (Flip(), Emptied()):
        estimator = TorchSegmenter(
            module__base_width=2, module__depth=1, batch_size=4, max_epochs=3, random_state=0,
            posterior=PointEstimate(), ignore_label=255, training_views=[view],
        )  # fmt: skip
        MeanTeacher(estimator, n_draws=1).fit(X, y)
        weights.append([weight for _, weight in seen])
        images = torch.cat([x for x, _ in seen]).numpy()
        flipped = [not any(np.array_equal(image, own) for own in X) for image in images]
        back = [image for image, is_new in zip(images, flipped) if is_new]
        assert 0 < len(back) < len(images)
        assert all(any(np.array_equal(b[..., ::-1], own) for own in X) for b in back)
        seen.clear()
    assert all(weight is None for weight in weights[0])
    found = torch.cat([weight for weight in weights[1] if weight is not None])
    assert found.shape[1:] == (6, 6) and (found[:, 1:] == 1).all() and (found[:, 0] == 0).any()
