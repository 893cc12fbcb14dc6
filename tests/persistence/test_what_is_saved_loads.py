"""`save` writes what the networks were built with, and keeps no file that `load` would refuse."""

import copy
import os
import pickle

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import FeatureUnion, make_pipeline
from torch import nn

import skuq
from skuq import PersistenceError, TorchClassifier
from skuq.calibration import TemperatureScaler
from skuq.posteriors import DeepEnsemble, PointEstimate
from tests.networks import Plain, ResidualNet
from tests.persistence.helpers import assert_same_answers

pytest.importorskip("safetensors")

OPTIONS = {"posterior": PointEstimate(), "max_epochs": 1, "random_state": 0}


def fitted(data, module=None, **options):
    return TorchClassifier(module, **{**OPTIONS, **options}).fit(*data)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.skuq"


CHANGES = [
    ({"module__hidden_layer_sizes": (3,)}, None),
    ({"module__hidden_layer_sizes": 7, "module__dropout": 0.5}, None),
    ({"module__activation": torch.tanh}, None),
    ({"module": Plain}, {"Plain": Plain}),
    ({"posterior": DeepEnsemble(3), "lr": "fast", "precision": "float16"}, None),
    ({"posterior": None, "likelihood": None, "device": "cuda:77"}, None),
]


@pytest.mark.parametrize(("change", "module"), CHANGES, ids=lambda value: repr(value)[:40])
def test_parameters_that_were_changed_after_fit(change, module, blobs, path):
    model = fitted(blobs, module__hidden_layer_sizes=[5, 4])
    model.set_params(**change)
    skuq.save(model, path)
    loaded = skuq.load(path, module=module)
    assert_same_answers(model, loaded, blobs[0])
    assert loaded.module_[1].weight.shape == (5, blobs[0].shape[1])
    now, then = loaded.get_params(), model.get_params()
    assert {name: str(value) for name, value in now.items()} == {
        name: str(value) for name, value in then.items()
    }
    skuq.save(loaded, path)  # which knows still what its network was built with
    assert_same_answers(model, skuq.load(path, module=module), blobs[0])


def test_a_module_that_was_changed_after_fit(blobs, path):
    model = fitted(blobs, Plain).set_params(module=ResidualNet)
    skuq.save(model, path)
    both = {"Plain": Plain, "ResidualNet": ResidualNet}
    loaded = skuq.load(path, module=both)
    assert loaded.module is ResidualNet and type(loaded.module_) is Plain
    assert_same_answers(model, loaded, blobs[0])
    model.set_params(module=Plain(6, 3))  # cannot stand in a file, nor is it needed
    with pytest.warns(UserWarning, match=r"module = "):
        skuq.save(model, path)
    loaded = skuq.load(path, module=Plain)
    assert_same_answers(model, loaded, blobs[0])
    with pytest.raises(ValueError, match="module was not saved"):
        loaded.fit(*blobs)


def test_a_list_that_was_changed_in_place(blobs, path):
    sizes = [5, 4]
    model = fitted(blobs, module__hidden_layer_sizes=sizes)
    sizes.append(3)
    skuq.save(model, path)
    loaded = skuq.load(path)
    assert_same_answers(model, loaded, blobs[0])
    assert loaded.get_params()["module__hidden_layer_sizes"] == [5, 4, 3]


class Forgetful(nn.Module):
    """Keeps in an attribute what only training makes."""

    def __init__(self, n_features, n_outputs):
        super().__init__()
        self.linear, self.scale = nn.Linear(n_features, n_outputs), 1.0

    def forward(self, x):
        if self.training:
            self.scale += 1.0
        return self.linear(x) * self.scale


def test_a_file_that_would_not_load_replaces_nothing(blobs, path):
    good = fitted(blobs)
    skuq.save(good, path)
    before = path.read_bytes(), os.stat(path)
    with pytest.raises(PersistenceError, match=r"nothing was saved.*does not\s+give its outputs"):
        skuq.save(fitted(blobs, Forgetful), path)
    after = path.read_bytes(), os.stat(path)
    assert before[0] == after[0] and before[1].st_mtime_ns == after[1].st_mtime_ns
    assert list(path.parent.iterdir()) == [path]


def test_two_classes_of_one_name(blobs, path):
    """Whoever loads could not give both."""

    def made(width):
        def build(n_features, n_outputs):
            return nn.Sequential(nn.Linear(n_features, width), nn.Linear(width, n_outputs))

        return build

    union = FeatureUnion([("a", make_pipeline(fitted(blobs, made(3)))),
                          ("b", make_pipeline(fitted(blobs, made(4))))])  # fmt: skip
    with pytest.raises(PersistenceError, match="nothing was saved"):
        skuq.save(union, path)
    calibrated = TemperatureScaler(FrozenEstimator(fitted(blobs, made(3)))).fit(
        blobs[0] + 1, blobs[1]
    )
    calibrated.set_params(estimator=TorchClassifier(made(4)))  # a template that nothing is built by
    skuq.save(calibrated, path)
    loaded = skuq.load(path, module=made(3))
    assert_same_answers(calibrated, loaded, blobs[0])


@pytest.mark.parametrize("how", ["as it is", "copied", "pickled", "saved"])
@pytest.mark.parametrize("incremental", [False, True])
def test_training_does_not_go_on_with_changed_parameters(how, incremental, blobs, path):
    model = fitted(blobs, module__hidden_layer_sizes=(5,), warm_start=True)
    model.set_params(module__hidden_layer_sizes=(3,), module__dropout=0.25)
    proba = model.predict_proba(blobs[0])
    if how == "copied":
        model = copy.deepcopy(model)
    elif how == "pickled":
        model = pickle.loads(pickle.dumps(model))
    elif how == "saved":
        skuq.save(model, path)
        model = skuq.load(path)
    go_on = model.partial_fit if incremental else model.fit
    message = r"module__hidden_layer_sizes: \(5,\) then, \(3,\) now; module__dropout: not given"
    with pytest.raises(ValueError, match=message):
        go_on(*blobs)
    assert np.array_equal(model.predict_proba(blobs[0]), proba)  # it is what it was
    model.set_params(module__hidden_layer_sizes=[3])
    anew = copy.deepcopy(model).set_params(warm_start=False).fit(*blobs)
    assert anew.module_[1].weight.shape[0] == 3
    model._prefixed = {"module__hidden_layer_sizes": (5,)}
    go_on(*blobs)
