"""Modules of several inputs: a dict of arrays, `Inputs`, positions, and sequences of any length."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn
from torch.utils.data import Dataset, IterableDataset

import skuq
from skuq import Inputs, TorchRegressor, TorchSegmenter
from skuq.calibration import TemperatureScaler
from skuq.novelty import NoveltyDetector
from skuq.posteriors import SWAG, DeepEnsemble, LastLayerLaplace, MCDropout, PointEstimate
from skuq.selective import SelectiveClassifier
from tests.estimator.helpers import classifier
from tests.networks.texts import BagOfTokens, WordAndImage, padded, ragged_rows

ROWS, Y = ragged_rows(40)
X = padded(ROWS)
POSTERIORS = [MCDropout(4), DeepEnsemble(2), LastLayerLaplace(n_draws=4), SWAG(n_draws=3)]


def texts(posterior=None, **options):
    options = {"lr": 0.1, "max_epochs": 12, "early_stopping": False, **options}
    return classifier(posterior or PointEstimate(), BagOfTokens, **options)


@pytest.fixture(scope="module")
def fitted():
    return texts(MCDropout(4), max_epochs=30).fit(X, Y)


# -- one fit, in any form ------------------------------------------------------------------------


def test_it_learns_from_tokens_and_a_mask(fitted):
    assert fitted.score(X, Y) > 0.9
    assert fitted.n_features_in_ == 14
    total, aleatoric, epistemic = fitted.predict_uncertainty(X, kind="all")
    assert (epistemic > 0).any() and np.allclose(total, aleatoric + epistemic)


class Pairs(Dataset):
    def __init__(self, X, y):
        self.X, self.y = Inputs(X), y

    def __len__(self):
        return len(self.y)

    def __getitem__(self, index):
        return self.X[index], self.y[index]


class Stream(IterableDataset):
    def __iter__(self):
        return iter(Pairs(X, Y))


@pytest.mark.parametrize("form", ["Inputs", "tensors", "Dataset", "IterableDataset"])
def test_other_forms_give_the_same_numbers(form, fitted):
    tensors = {name: torch.as_tensor(array) for name, array in X.items()}
    forms = {"Inputs": Inputs(X), "tensors": tensors, "Dataset": Pairs(X, Y)}
    rows = {**forms, "IterableDataset": Stream()}[form]
    own = copy.deepcopy(fitted).set_params(max_epochs=30)
    own = own.fit(rows) if "Dataset" in form else own.fit(rows, Y)
    np.testing.assert_array_equal(own.predict_proba(rows), fitted.predict_proba(X))
    if form == "Dataset":
        assert own.score(rows) == fitted.score(X, Y)


@pytest.mark.parametrize("posterior", POSTERIORS, ids=str)
def test_padding_does_not_change_predictions(posterior):
    model = texts(posterior).fit(X, Y)
    proba = model.predict_proba(X)
    np.testing.assert_allclose(model.predict_proba(padded(ROWS, 20)), proba, atol=1e-6)
    one = {name: array[5:6] for name, array in X.items()}
    np.testing.assert_allclose(model.predict_proba(one), proba[5:6], atol=1e-6)


@pytest.mark.parametrize("posterior", [MCDropout(4), DeepEnsemble(2)], ids=str)
def test_rows_of_several_lengths_are_those_with_a_mask(posterior):
    ragged = Inputs(input_ids=ROWS)
    own, other = texts(posterior).fit(ragged, Y), texts(posterior).fit(X, Y)
    np.testing.assert_allclose(own.predict_proba(ragged), other.predict_proba(X), atol=1e-5)
    with_masks = Inputs(input_ids=ROWS, attention_mask=[[1] * len(row) for row in ROWS])
    third = texts(posterior).fit(with_masks, Y)
    np.testing.assert_array_equal(third.predict_proba(with_masks), own.predict_proba(ragged))
    few = Inputs(input_ids=ROWS[:3])
    np.testing.assert_allclose(own.predict_proba(few), own.predict_proba(ragged)[:3], atol=1e-6)
    assert own._share_seen(few) == 1.0  # for any padding


def test_each_batch_is_as_long_as_its_longest_row():
    widths = []

    class Watching(BagOfTokens):
        def forward(self, input_ids, attention_mask):
            widths.append(input_ids.shape[-1])
            return super().forward(input_ids, attention_mask)

    order = np.argsort([len(row) for row in ROWS])
    ragged = Inputs(input_ids=[ROWS[k] for k in order])
    model = classifier(module=Watching, iterator_train__shuffle=False, batch_size=5, max_epochs=1)
    model.set_params(early_stopping=False).fit(ragged, Y[order])
    assert {3, 4, 7} <= set(widths)


def test_inputs_by_position():
    random = np.random.default_rng(0)
    inputs = Inputs(
        random.normal(size=(30, 3, 4, 4)), random.normal(size=(30, 2)), random.integers(5, size=30)
    )
    y = inputs.arrays["2"] > 2
    model = classifier(DeepEnsemble(2), WordAndImage, max_epochs=60, lr=0.05).fit(inputs, y)
    assert model.score(inputs, y) > 0.9


def test_integers_stay_whole_under_autocast_and_in_float64():
    for precision in ("bfloat16", "float64"):
        assert texts(precision=precision).fit(X, Y).score(X, Y) > 0.8


# -- through scikit-learn and skuq ---------------------------------------------------------------


def codes_of(lines):
    return Inputs(input_ids=[[ord(letter) % 19 + 1 for letter in line] for line in lines])


def test_searches_splitters_and_pipelines():
    rows = Inputs(X)
    assert len(cross_val_score(texts(max_epochs=2), Inputs(input_ids=ROWS), Y, cv=2)) == 2
    search = GridSearchCV(texts(max_epochs=2), {"lr": [0.1, 0.2]}, cv=2).fit(rows, Y)
    assert search.predict(X).shape == (40,)
    pipeline = make_pipeline(FunctionTransformer(codes_of), texts(MCDropout(3), max_epochs=2))
    pipeline.fit(["abc", "de", "fghi", "k"] * 5, ["a", "b", "a", "b"] * 5)
    assert skuq.predict_uncertainty(pipeline, ["abc", "zz"]).shape == (2,)


def test_calibrators_refusals_and_detectors(fitted):
    some_wrong = np.where(np.arange(40) % 5 == 0, 1 - Y, Y)
    for rows in (X, Inputs(X)):
        with pytest.warns(UserWarning, match="trained on 100% of the rows"):  # for any padding
            scaled = TemperatureScaler(FrozenEstimator(fitted)).fit(padded(ROWS, 9), some_wrong)
        assert scaled.predict_proba(rows).shape == (40, 2)
    refusing = SelectiveClassifier(TemperatureScaler(texts(max_epochs=3), cv=2), coverage=0.5)
    assert refusing.fit(Inputs(X), Y).predict(X).shape == (40,)
    detector = NoveltyDetector(texts(max_epochs=3), cv=2).fit(Inputs(X), Y)
    assert detector.predict_novelty(X).shape == (40,)
    assert skuq.predict_features(fitted, X).shape == (40, 8)
    assert fitted.draws(X).shape == (4, 40, 2)


def test_validation_rows_of_the_user():
    val = Inputs(padded(ROWS[:10], 12))
    model = texts(max_epochs=3, early_stopping=True).fit(X, Y, X_val=val, y_val=Y[:10])
    assert "valid_loss" in model.history_[0]


def test_training_goes_on_with_other_lengths():
    model = texts().partial_fit(X, Y).partial_fit(padded(ROWS, 11), Y)
    assert model.n_iter_ == 2
    again = texts(warm_start=True, max_epochs=1).fit(X, Y).fit(Inputs(padded(ROWS, 11)), Y)
    assert again.predict_proba(X).shape == (40, 2)


def test_checkpoints_pickles_and_files(tmp_path, fitted):
    ragged = Inputs(input_ids=ROWS)
    model = texts(MCDropout(3), max_epochs=3, checkpoint_dir=str(tmp_path / "c")).fit(ragged, Y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(ragged), model.predict_proba(ragged))
    skuq.save(model, tmp_path / "m.skuq")
    loaded = skuq.load(tmp_path / "m.skuq", module=BagOfTokens)
    np.testing.assert_array_equal(loaded.predict_proba(ragged), model.predict_proba(ragged))
    assert loaded.partial_fit(ragged, Y).n_iter_ == 4


def test_networks_trained_elsewhere(fitted):
    network = copy.deepcopy(fitted.module_)
    for rows in (X, Pairs(X, Y)):
        y = None if rows is not X else Y
        own = skuq.from_trained(
            network, rows, y, task="classification", posterior=PointEstimate(), random_state=0
        )
        direct = network(**{k: torch.as_tensor(v) for k, v in X.items()}).logits.softmax(-1)
        np.testing.assert_allclose(own.predict_proba(X), direct.detach(), atol=1e-5)


# -- one array of tokens -------------------------------------------------------------------------


class Tokens(nn.Module):
    """Token ids of shape (n, length), as one array."""

    def __init__(self, n_outputs):
        super().__init__()
        self.embed, self.head = nn.Embedding(20, 8), nn.Linear(8, n_outputs)

    def forward(self, x):
        return self.head(self.embed(x.long()).mean(-2))


class Columns(Tokens):
    def forward(self, x):
        return self.head(self.embed(x[..., :3].long()).mean(-2))


def test_sequences_of_another_length_than_in_fit():
    ids = X["input_ids"]
    model = classifier(DeepEnsemble(2), Tokens).fit(ids, Y)
    shorter = model.predict_proba(ids[:, :4])
    np.testing.assert_allclose(model.predict_proba(np.tile(ids[:, :4], 2)), shorter, atol=1e-6)
    assert model.partial_fit(np.tile(ids, 2), Y).n_features_in_ == 14


def test_tables_keep_their_number_of_columns():
    ids = X["input_ids"]
    for module in (None, Columns):
        model = classifier(module=module).fit(ids / 20, Y)
        with pytest.raises(ValueError, match=r"4 features, but .* expecting 7"):
            model.predict(ids[:, :4] / 20)


# -- errors --------------------------------------------------------------------------------------

REFUSED = {
    "misspelt": ({"input_id": X["input_ids"], "attention_mask": X["attention_mask"]}, "Did you"),
    "missing": ({"input_ids": X["input_ids"]}, r"\['attention_mask'\] get none"),
    "too many": (Inputs(*X.values(), X["input_ids"]), "3 without a name"),
    "rows": (Inputs(attention_mask=X["attention_mask"], input_ids=ROWS), "leave it out"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_inputs_that_the_module_does_not_take(case):
    rows, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        texts().fit(rows, Y)


def test_rows_of_another_kind_than_in_fit(fitted):
    with pytest.raises(ValueError, match="was fitted on the inputs"):
        fitted.predict(X["input_ids"])
    with pytest.raises(ValueError, match="was fitted on one array"):
        classifier().fit(X["input_ids"] / 20, Y).predict(X)
    with pytest.raises(ValueError, match="does not take; it takes"):
        classifier().fit(X, Y)
    with pytest.raises(ValueError, match="must hold images"):
        TorchSegmenter().fit(Inputs(X), Y)
    with pytest.raises(TypeError, match="several inputs"):
        skuq.uncertainty_function(fitted)


def test_no_mask_no_rows_of_several_lengths():
    class NoMask(nn.Module):
        def __init__(self, n_outputs):
            super().__init__()
            self.embed, self.head = nn.Embedding(20, 4), nn.Linear(4, n_outputs)

        def forward(self, input_ids):
            return self.head(self.embed(input_ids).mean(-2))

    with pytest.raises(ValueError, match="name an argument attention_mask"):
        TorchRegressor(NoMask, max_epochs=1).fit(Inputs(input_ids=ROWS), Y.astype(float))
