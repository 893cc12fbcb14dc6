"""skuq.from_trained: sizes of y, kinds of X and y, orders of labels, and its messages."""

import copy

import numpy as np
import pytest
import scipy.sparse
import torch
from torch import nn
from torch.utils.data import IterableDataset, TensorDataset

from skuq import TorchClassifier, from_trained
from skuq.likelihoods import Bernoulli, Gaussian, Laplace, Quantile
from skuq.posteriors import PointEstimate
from tests.test_from_trained import Net, outputs, softmax, trained

POINT = PointEstimate()
CLASSES = {"task": "classification", "posterior": POINT, "random_state": 0}
NUMBERS = {"task": "regression", "posterior": POINT, "random_state": 0}


@pytest.fixture
def network(blobs):
    X, y = blobs
    return trained(X[::2], torch.as_tensor(y[::2]), nn.functional.cross_entropy, 3)


@pytest.fixture
def one_logit(blobs):
    X, y = blobs
    target = torch.as_tensor(y == 2, dtype=torch.float32)[:, None]
    return trained(X, target, nn.functional.binary_cross_entropy_with_logits, 1)


def linear(weight, bias):
    weight = torch.as_tensor(weight, dtype=torch.float64)
    layer = nn.Linear(weight.shape[1], len(weight)).double()
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(torch.as_tensor(bias))
    return layer


# -- the size of y ---------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", [1e-8, 1e-4, 1.0, 1e7])
def test_the_noise_of_a_regression_has_the_size_of_y(unit):
    """One noise for all rows, as the residuals have it; or as the network gives it."""
    random = np.random.default_rng(0)
    X = random.normal(size=(500, 3))
    base, weights = X @ [1.0, 2.0, 3.0], unit * np.array([[1.0, 2.0, 3.0]])
    y = unit * (base + 0.1 * random.normal(size=500))
    means = linear(weights, [0.0])
    one = from_trained(means, X, y, precision="float64", **NUMBERS)
    std = one.predict(X, return_std=True)[1]
    np.testing.assert_allclose(std, np.sqrt(np.mean((y - unit * base) ** 2)), rtol=1e-9)
    both = linear(np.concatenate([weights, np.zeros((1, 3))]), [0.0, 2 * np.log(0.1 * unit)])
    each = from_trained(both, X, y, precision="float64", **NUMBERS)
    std = each.predict(X, return_std=True)[1]
    np.testing.assert_allclose(std, np.sqrt((0.1 * unit) ** 2 + 1e-6 * y.var()), rtol=1e-9)
    covered = np.abs(y - each.predict(X)) < 1.96 * std
    assert 0.92 < covered.mean() < 0.98


@pytest.mark.parametrize("heteroscedastic", [False, True])
@pytest.mark.parametrize("unit", [1e-8, 1e7])
def test_the_default_posterior_has_the_size_of_y(heteroscedastic, unit):
    """Both parts of the variance grow by the square of the unit."""
    random = np.random.default_rng(0)
    X = random.normal(size=(200, 3))
    y = X @ [1.0, 2.0, 3.0] + random.normal(size=200)

    def parts(unit):
        weights = unit * np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])[: 1 + heteroscedastic]
        network = linear(weights, [0.0, 2 * np.log(unit)][: 1 + heteroscedastic])
        options = NUMBERS | {"posterior": None, "precision": "float64"}
        model = from_trained(network, X, unit * y, **options)
        both = model.predict_uncertainty(X, kind="all")
        return both.epistemic / unit**2, both.aleatoric / unit**2

    np.testing.assert_allclose(parts(unit), parts(1.0), rtol=1e-6)


@pytest.mark.parametrize("unit", [1e-4, 1e7])
def test_a_network_in_single_precision(unit):
    random = np.random.default_rng(0)
    X = random.normal(size=(200, 3))
    y = unit * (X @ [1.0, 2.0, 3.0] + random.normal(size=200))
    both = linear(unit * np.array([[1.0, 2, 3], [0, 0, 0]]), [0.0, np.log(unit)]).float()
    model = from_trained(both, X, y, likelihood=Laplace(), **NUMBERS)
    floor = 1e-3 * y.std()
    expected = np.sqrt(2) * (unit + floor)
    np.testing.assert_allclose(model.predict(X, return_std=True)[1], expected, rtol=1e-4)


# -- kinds of X and y ------------------------------------------------------------------------------


def test_uncertain_labels(one_logit, blobs):
    """NaN in a column of labels teaches nothing, and is no reason to warn."""
    X, y = blobs
    binary = (y == 2).astype(float)
    plain = from_trained(one_logit, X, binary, **CLASSES)
    binary[::3] = np.nan
    for labels in (binary, binary.tolist()):
        model = from_trained(one_logit, X, labels, likelihood=Bernoulli("ignore"), **CLASSES)
        np.testing.assert_array_equal(model.predict_proba(X), plain.predict_proba(X))
    with pytest.warns(UserWarning, match="worse than chance"):  # the others still count
        from_trained(one_logit, X, 1 - binary, likelihood=Bernoulli("ignore"), **CLASSES)


@pytest.mark.parametrize(
    "kind", ["coo_matrix", "coo_array", "bsr_array", "csc_array", "lil_matrix"]
)
def test_sparse_rows_of_any_format(kind, network, blobs):
    X, y = blobs
    model = from_trained(network, getattr(scipy.sparse, kind)(X), y, **CLASSES)
    plain = from_trained(network, X, y, **CLASSES)
    np.testing.assert_array_equal(model.predict_proba(X), plain.predict_proba(X))


@pytest.mark.parametrize("iterable", [False, True])
def test_a_dataset_without_rows_of_a_label(iterable, network, blobs):
    X, y = blobs
    some = y != 1
    pairs = TensorDataset(torch.as_tensor(X[some]).float(), torch.as_tensor(y[some]))

    class Stream(IterableDataset):
        def __iter__(self):
            return iter(pairs)

    model = from_trained(network, Stream() if iterable else pairs, **CLASSES)
    assert list(model.classes_) == [0, 1, 2]
    np.testing.assert_allclose(model.predict_proba(X), softmax(outputs(network, X)), atol=1e-6)


def test_a_dataset_whose_labels_are_not_those_of_outputs(network, blobs):
    X, y = blobs
    pairs = TensorDataset(torch.as_tensor(X).float(), torch.as_tensor(y * 0 + 7 * (y > 0)))
    with pytest.raises(ValueError, match=r"3 outputs, but y has 2 labels, \[0 7\].*classes=\.\.\."):
        from_trained(network, pairs, **CLASSES)


# -- labels ----------------------------------------------------------------------------------------


def test_rows_of_a_single_label(network, one_logit, blobs):
    X, y = blobs
    one = from_trained(network, X[y == 1], y[y == 1], **CLASSES)
    np.testing.assert_allclose(one.predict_proba(X), softmax(outputs(network, X)), atol=1e-6)
    p = 1 / (1 + np.exp(-outputs(one_logit, X)[:, 0]))
    rows, ones = X[y == 2], np.ones((y == 2).sum(), int)
    given = from_trained(one_logit, rows, ones, classes=[0, 1], **CLASSES)
    known = from_trained(one_logit, rows, ones, **CLASSES)
    truth = from_trained(one_logit, rows, ones.astype(bool), **CLASSES)
    names = from_trained(one_logit, rows, ["b"] * len(rows), classes=["a", "b"], **CLASSES)
    for model in (given, known, truth, names):
        np.testing.assert_allclose(model.predict_proba(X)[:, 1], p, atol=1e-6)
    assert list(given.classes_) == list(known.classes_) == [0, 1]
    assert list(truth.classes_) == [False, True] and list(names.classes_) == ["a", "b"]
    with pytest.raises(ValueError, match=r"1 output, for two labels, but y has 1 labels.*classes="):
        from_trained(one_logit, X, ["b"] * len(X), **CLASSES)


def test_messages_show_no_numbers_of_numpy(network, blobs):
    X, y = blobs
    only = (y == 1).astype(float)
    with pytest.raises(ValueError, match=r"only one class is left .* removed, \[1\]"):
        TorchClassifier(max_epochs=1).fit(X, y, sample_weight=only)
    with pytest.raises(ValueError, match=r"got values such as \[2\]"):
        TorchClassifier(likelihood=Bernoulli(), max_epochs=1).fit(X, np.stack([y, y], 1))
    with pytest.raises(ValueError, match=r"classes=\[0, 1, 1\] must be"):
        from_trained(network, X, y, classes=list(np.array([0, 1, 1])), **CLASSES)
    scale = (np.float64(0.0), np.float64(0.0))
    with pytest.raises(ValueError, match=r"got \(0\.0, 0\.0\)"):
        Gaussian(standardise=scale).validate()


@pytest.mark.parametrize("posterior", [POINT, None], ids=str)
def test_labels_in_the_order_of_the_outputs(posterior, network, blobs):
    """skuq sorts the labels, and the outputs with them, in a copy."""
    X, y = blobs
    order = ["b", "c", "a"]
    names = np.array(order)[y]
    before = copy.deepcopy(network.state_dict())
    options = {**CLASSES, "posterior": posterior}
    model = from_trained(network, X, names, classes=order, **options)
    assert list(model.classes_) == ["a", "b", "c"]
    expected = from_trained(network, X, y, **options).predict_proba(X)
    # Column of "a" is output 2, and so on. Draws of the default are other ones.
    atol = 1e-6 if posterior is POINT else 0.05
    np.testing.assert_allclose(model.predict_proba(X), expected[:, [2, 0, 1]], atol=atol)
    assert model.score(X, names) > 0.8
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())
    assert torch.equal(model.module().head.bias, network.head.bias[[2, 0, 1]])


def test_orders_that_nothing_can_follow(network, one_logit, blobs):
    X, y = blobs
    names = np.array(["b", "c", "a"])[y]
    options = {"classes": ["b", "c", "a"], **CLASSES}
    with pytest.raises(ValueError, match=r"not sorted.*something follows its last nn\.Linear"):
        from_trained(nn.Sequential(network, nn.LayerNorm(3)), X, names, **options)
    with pytest.raises(ValueError, match=r"not sorted.*module is a function or class"):
        from_trained(lambda: network, X, names, **options)
    with pytest.raises(ValueError, match=r"not sorted.*not for Bernoulli\(\)"):
        from_trained(one_logit, X, y == 2, classes=[True, False], likelihood=Bernoulli(), **CLASSES)
    with pytest.raises(ValueError, match="it has 3 outputs, and classes has 2 labels"):
        from_trained(network, X, names, **options | {"classes": ["b", "a"]})


# -- functions, units and shapes -------------------------------------------------------------------


def test_the_number_of_outputs_of_a_function_decides(diabetes):
    """As for instances, with one call for each network."""
    X, y = diabetes
    target = torch.as_tensor(y, dtype=torch.float32)[:, None]
    network = trained(X, target, nn.functional.mse_loss, 1, n_epochs=600)
    calls = []

    def made():
        calls.append(1)
        return network

    plain = from_trained(network, X, y, **NUMBERS)
    model = from_trained(made, X, y, **NUMBERS)
    assert len(calls) == 1 and model.likelihood.heteroscedastic is False
    assert model.module is made and model._built.factory is made
    np.testing.assert_array_equal(model.predict(X), plain.predict(X))
    model.fit(X, y)
    assert len(calls) == 2
    with pytest.raises(ValueError, match="3 outputs for 1 targets"):
        from_trained(lambda: Net(10, 3), X, y, **NUMBERS)
    quantiles = from_trained(lambda: Net(10, 3), X[:19], y[:19],
                             likelihood=Quantile((0.1, 0.5, 0.9)), **NUMBERS)  # fmt: skip
    assert quantiles.predict(X).shape == y.shape

    def sized(n_features, n_outputs):  # known only with the likelihood
        torch.manual_seed(0)
        return Net(n_features, n_outputs)

    assert from_trained(sized, X[:19], y[:19], **NUMBERS).likelihood.heteroscedastic is True


def test_one_logit_of_a_function(one_logit, blobs):
    X, y = blobs
    model = from_trained(lambda: one_logit, X, (y == 2).astype(int), **CLASSES)
    assert isinstance(model.likelihood, Bernoulli)


def test_a_target_scale_that_is_none(diabetes):
    X, y = diabetes
    target = torch.as_tensor((y - y.mean()) / y.std(), dtype=torch.float32)[:, None]
    network = trained(X, target, nn.functional.mse_loss, 1)
    with pytest.warns(UserWarning, match="worse than the mean of y") as caught:
        from_trained(network, X, y, target_scale=(y.mean(), y.var()), **NUMBERS)
    (message,) = [str(one.message) for one in caught]
    assert "was given: is the second number the standard deviation, and is y in its own" in message
    assert "np.float64" not in message and "give target_scale" not in message


@pytest.mark.parametrize("given", [lambda network: network, lambda network: lambda: network])
def test_rows_of_another_shape(given):
    images = np.random.default_rng(0).normal(size=(40, 64))
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 2))
    y = np.arange(40) % 2
    match = r"Sequential cannot take rows of X, which has shape \(n_samples, 64\)\. It said: "
    with pytest.raises(ValueError, match=match + r"RuntimeError: .*conv2d.*reshape"):
        from_trained(given(network), images, y, **CLASSES)
    with pytest.raises(ValueError, match=r"shape \(n_samples, 9\).*mat1 and mat2 shapes"):
        from_trained(given(nn.Sequential(nn.Linear(10, 2))), images[:, :9], y, **CLASSES)
