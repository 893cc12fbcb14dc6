"""Trained segmentation networks: skuq.from_trained(task="segmentation")."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn
from torch.utils.data import TensorDataset

import skuq
from skuq import TorchSegmenter, from_trained
from skuq.likelihoods import Bernoulli, Categorical
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate

VOID = 255
POINT = PointEstimate()


class Pixels(nn.Sequential):
    """A network that somebody else has written."""

    def __init__(self, n_outputs=3, dropout=0.3):
        torch.manual_seed(0)
        super().__init__(
            nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(),
            nn.Dropout2d(dropout) if dropout else nn.Identity(), nn.Conv2d(8, n_outputs, 1),
        )  # fmt: skip


@pytest.fixture
def images():
    """Images, and masks of the labels 0 and 2, of 0 … 2."""
    X = np.random.default_rng(0).normal(size=(6, 2, 6, 5)).astype(np.float32)
    y = np.where(X[:, 0] > 0, 2, 0)
    y[0, 0] = VOID
    return X, y


def outputs(network, X):
    with torch.no_grad():
        return network.eval()(torch.as_tensor(X)).double()


def test_predictions_are_those_of_the_network(images):
    X, y = images
    network = Pixels().train()
    model = from_trained(
        network, X, y, task="segmentation", posterior=POINT, ignore_label=VOID, random_state=0
    )
    assert isinstance(model, TorchSegmenter) and network.training
    assert isinstance(model.likelihood_, Categorical)
    assert model.classes_.tolist() == [0, 1, 2]  # all that the network knows
    expected = outputs(network, X).softmax(1)
    np.testing.assert_allclose(model.predict_proba(X), expected, atol=1e-6)
    assert np.array_equal(model.predict(X), expected.argmax(1))
    again = clone(model).fit(X, np.where(y == VOID, 1, y))  # its masks must hold all labels
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


def test_dropout_is_the_default(images):
    X, y = images
    options = {"task": "segmentation", "ignore_label": VOID, "random_state": 0}
    model = from_trained(Pixels(), X, y, **options)
    assert isinstance(model.posterior_, MCDropout) and model.predict_draws(X[:1]).std(0).max() > 0
    with pytest.raises(ValueError, match=r"no nn\.Dropout with p > 0.*where="):
        from_trained(Pixels(dropout=0.0), X, y, **options)
    inserted = MCDropout(5, p=0.2, where=["3"])
    model = from_trained(Pixels(dropout=0.0), X, y, posterior=inserted, **options)
    assert model.predict_uncertainty(X, kind="epistemic").max() > 0
    members = [Pixels(), Pixels()]
    with torch.no_grad():
        members[1][3].bias += 1.0
    ensemble = from_trained(members, X, y, **options)
    assert isinstance(ensemble.posterior_, DeepEnsemble)
    expected = torch.stack([outputs(one, X).softmax(1) for one in members]).mean(0)
    np.testing.assert_allclose(ensemble.predict_proba(X), expected, atol=1e-6)


def test_overlapping_masks_and_one_output(images):
    X, y = images
    masks = np.stack([y == 0, y == 2, X[:, 1] > 0], axis=1).astype(int)
    model = from_trained(Pixels(), X, masks, task="segmentation", posterior=POINT)
    assert isinstance(model.likelihood_, Bernoulli)
    np.testing.assert_allclose(model.predict_proba(X), outputs(Pixels(), X).sigmoid(), atol=1e-6)
    one = from_trained(Pixels(1), X, (y == 2).astype(int), task="segmentation", posterior=POINT)
    p = outputs(Pixels(1), X).sigmoid()[:, 0]
    np.testing.assert_allclose(one.predict_proba(X)[:, 1], p, atol=1e-6)


def test_names_weights_streams_and_files(images, tmp_path):
    X, y = images
    names = np.array(["car", "road", "sky"])
    y = names[np.where(y == VOID, 1, y)]
    y[y == "sky"] = "car"  # two names of three
    options = {"task": "segmentation", "posterior": POINT}
    with pytest.raises(ValueError, match=r"3 outputs, but y has 2 labels.*classes="):
        from_trained(Pixels(), X, y, **options)
    model = from_trained(Pixels(), X, y, classes=names, sample_weight=np.arange(6.0), **options)
    assert np.array_equal(model.classes_, names)
    with pytest.raises(ValueError, match=r"not sorted.*no nn\.Linear|classes is not sorted"):
        from_trained(Pixels(), X, y, classes=names[::-1], **options)
    skuq.save(model, tmp_path / "model.skuq")
    loaded = skuq.load(tmp_path / "model.skuq", module=Pixels)
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    codes = np.searchsorted(names, y)
    stream = TensorDataset(torch.as_tensor(X), torch.as_tensor(codes))
    streamed = from_trained(Pixels(), stream, **options)
    assert streamed.classes_.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(streamed.predict_proba(X), model.predict_proba(X))


def test_what_does_not_fit_is_refused(images):
    X, y = images
    options = {"task": "segmentation", "posterior": POINT, "ignore_label": VOID}
    with pytest.raises(ValueError, match="ends in softmax"):
        from_trained(nn.Sequential(Pixels(), nn.Softmax(1)), X, y, **options)
    with pytest.raises(ValueError, match="cannot take rows of X"):
        from_trained(Pixels(), X[:, :1], y, **options)
    with pytest.raises(ValueError, match=r"y has shape \(6, 5, 5\)"):
        from_trained(Pixels(), X, y[:, 1:], **options)
    with pytest.raises(ValueError, match="shape"):
        from_trained(nn.Sequential(Pixels(), nn.Flatten()), X, y, **options)
    with pytest.raises(ValueError, match="target_scale is for"):
        from_trained(Pixels(), X, y, target_scale=(0, 1), **options)
    for task in ("classification", "regression"):
        with pytest.raises(ValueError, match=rf"'{task}' .*\(6, 6, 5\).*task='segmentation'"):
            from_trained(Pixels(), X, y, task=task)
    with pytest.raises(ValueError, match="'task' parameter"):
        from_trained(Pixels(), X, y, task="pixels")
