"""Several trained networks as a list: a deep ensemble of copies of them."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from torch import nn

import skuq
from skuq import from_trained
from skuq.likelihoods import Gaussian
from skuq.persistence._save import parts_of
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate
from tests.persistence.forging import file_of, forged, put
from tests.test_from_trained import Net, outputs, softmax, trained

CLASSES = {"task": "classification", "random_state": 0}


@pytest.fixture
def members(blobs):
    X, y = blobs
    return [
        trained(X[k::3], torch.as_tensor(y[k::3]), nn.functional.cross_entropy, 3) for k in range(3)
    ]


def of_list(members, blobs, **options):
    X, y = blobs
    return from_trained(members, X[1::2], y[1::2], **CLASSES | options)


@pytest.mark.parametrize("kind", [list, tuple, nn.ModuleList])
def test_a_list_is_an_ensemble(kind, members, blobs):
    """Its draws are the networks, in order."""
    X, _ = blobs
    model = of_list(kind(members), blobs)
    assert type(model.posterior) is DeepEnsemble and model.posterior.n_members == 3
    expected = [softmax(outputs(network, X)) for network in members]
    np.testing.assert_allclose(model.predict_draws(X), expected, atol=1e-6)
    np.testing.assert_allclose(model.predict_proba(X), np.mean(expected, 0), atol=1e-6)
    with torch.no_grad():
        for network in members:
            network.head.weight.zero_()  # later changes have no effect
    np.testing.assert_allclose(model.predict_draws(X), expected, atol=1e-6)


def test_clones_pickles_and_cross_validation(members, blobs):
    X, y = blobs
    model = of_list(members, blobs, posterior=DeepEnsemble(3))
    draws = model.predict_draws(X)
    again = clone(model).fit(X[1::2], y[1::2])
    np.testing.assert_array_equal(again.predict_draws(X), draws)
    assert repr(again) == repr(model)
    assert cross_val_score(model, X, y, cv=3).min() > 0.8
    loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(loaded.predict_draws(X), draws)
    np.testing.assert_array_equal(clone(loaded).fit(X[1::2], y[1::2]).predict_draws(X), draws)
    other = of_list([members[0], members[2], members[1]], blobs)
    assert repr(other.module) != repr(model.module)
    fewer = clone(model).set_params(posterior__n_members=2).fit(X[1::2], y[1::2])
    np.testing.assert_array_equal(fewer.predict_draws(X), draws[:2])
    with pytest.raises(ValueError, match="holds 3 trained networks, but the posterior asks for n"):
        clone(model).set_params(posterior__n_members=4).fit(X, y)
    tuned = clone(model).set_params(max_epochs=2, lr=1e-9).fit(X, y)
    stacked = tuned._engine.draws.tensors(0, 3)["inner.weight"]
    expected = torch.stack([network.inner.weight for network in members])
    torch.testing.assert_close(stacked, expected, rtol=0, atol=1e-6)


def test_files(members, blobs, tmp_path):
    pytest.importorskip("safetensors")
    X, y = blobs
    model, path = of_list(members, blobs), tmp_path / "m.skuq"
    skuq.save(model, path)
    for module in (Net, Net(10, 3)):
        loaded = skuq.load(path, module=module)
        np.testing.assert_array_equal(loaded.predict_draws(X), model.predict_draws(X))
        assert repr(loaded) == repr(model)
        refitted = clone(loaded).fit(X[1::2], y[1::2])
        np.testing.assert_array_equal(refitted.predict_draws(X), model.predict_draws(X))
    skuq.save(loaded, path)
    again = skuq.load(path, module=Net)
    np.testing.assert_array_equal(again.predict_draws(X), model.predict_draws(X))
    for wrong in (3, [3], [{"head.bias": 3}]):
        parts = forged(parts_of(model)[0], put("module", "others", wrong))
        path.write_bytes(file_of(parts, tmp_path))
        with pytest.raises(skuq.PersistenceError, match=r"no JSON|no tensor"):
            skuq.load(path, module=Net)


def test_a_regression(diabetes):
    """The mean of the members, their spread, and one noise."""
    X, y = diabetes
    target = torch.as_tensor(y, dtype=torch.float32)[:, None]
    members = [trained(X[k::2], target[k::2], nn.functional.mse_loss, 1, n_epochs=300)
               for k in range(2)]  # fmt: skip
    model = from_trained(members, X, y, task="regression", random_state=0)
    assert model.likelihood.heteroscedastic is False
    expected = np.stack([outputs(network, X)[:, 0] for network in members])
    np.testing.assert_allclose(model.predict(X), expected.mean(0), rtol=1e-5)
    epistemic = model.predict_uncertainty(X, kind="epistemic")
    np.testing.assert_allclose(epistemic, expected.var(0), rtol=1e-2, atol=1e-2)


def test_labels_in_the_order_of_the_outputs(members, blobs):
    X, y = blobs
    order = np.array(["c", "a", "b"])
    model = from_trained(members, X, order[y], classes=order, **CLASSES)
    expected = np.stack([softmax(outputs(network, X)) for network in members])
    np.testing.assert_allclose(model.predict_draws(X), expected[..., [1, 2, 0]], atol=1e-6)


def test_what_is_refused(members, blobs):
    def refused(error, match, module, **options):
        with pytest.raises(error, match=match):
            of_list(module, blobs, **options)

    expected = r"list of 3 trained networks.*expected posterior=None or DeepEnsemble\(3\), got "
    refused(ValueError, rf"{expected}MCDropout\(\).*takes one network", members,
            posterior=MCDropout())  # fmt: skip
    refused(ValueError, rf"{expected}PointEstimate\(\)", members, posterior=PointEstimate())
    refused(ValueError, expected, members, posterior=DeepEnsemble(5))
    refused(ValueError, "empty list", [])
    refused(TypeError, "must hold trained networks.*got <class", [members[0], Net])
    refused(TypeError, "got OrderedDict. For a state dict", [members[0].state_dict()])
    refused(TypeError, "module__width is a parameter for building", members, module__width=3)
    wide = nn.Sequential(nn.Linear(10, 5), nn.Tanh(), nn.Linear(5, 3))
    narrow = nn.Sequential(nn.Linear(10, 4), nn.Tanh(), nn.Linear(4, 3))
    other = nn.Sequential(nn.Linear(10, 5), nn.ReLU(), nn.Linear(5, 3))
    refused(ValueError, "networks 0 and 1 of module have different layers.*shape", [wide, narrow])
    refused(ValueError, "networks 0 and 1 .* differ in more than parameters", [wide, other])
    with torch.no_grad():
        members[1].head.bias[0] = torch.nan
    refused(ValueError, "NaN", members)
    refused(ValueError, "needs a likelihood for classification", members[:1], likelihood=Gaussian())


def test_a_function_that_runs_out(members, blobs):
    networks = iter(members[:2])
    with pytest.raises(ValueError, match=r"raised StopIteration: it has no further.* a list of"):
        of_list(lambda: next(networks), blobs, posterior=DeepEnsemble(3))
    with pytest.raises(ValueError, match=r"posterior.* needs 3|a list of trained networks, from_"):
        of_list(members[0], blobs, posterior=DeepEnsemble(3))
