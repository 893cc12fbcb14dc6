"""Files hold posteriors, draws and likelihoods of other packages that declare a name."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

import skuq
from skuq import PersistenceError, TorchClassifier, TorchRegressor
from skuq._utils._saved_names import _declared
from skuq.likelihoods import Likelihood
from skuq.persistence import saved_as
from skuq.posteriors import Draws, PointEstimate, Posterior
from tests.persistence.helpers import CHEAP, assert_same_answers, round_trip
from tests.posteriors.toys import Anchored, RandomScales, Snapshots, Taught

pytest.importorskip("safetensors")


@saved_as("tests.Steps")
class Steps(Draws):
    """Draws whose last bias moves on by equal steps, made when they are asked for."""

    def __init__(self, module, n_draws, step):
        super().__init__(module, n_draws=n_draws)
        self.step = step

    def tensors(self, start, stop):
        name, bias = list(self.module.named_parameters())[-1]
        steps = self.step * torch.arange(start, stop).to(bias)
        return {name: bias.detach() + steps[:, None]}


@saved_as("tests.Stepping")
class Stepping(Posterior):
    def fit(self, problem):
        (network,) = problem.train()
        return Steps(network, n_draws=4, step=0.5)


@saved_as("tests.Waiting")
class Waiting(Likelihood):
    """Waiting times, the output is the logarithm of their mean."""

    task = "regression"

    def fit(self, y, sample_weight=None, n_classes=None, seed=0):
        self.n_outputs_ = y.shape[1]
        return self

    def explain_outputs(self):
        return "a logarithm"

    def loss(self, output, target):
        return (output + target * (-output).exp()).sum(-1)

    def predictive(self, output):
        return torch.distributions.Exponential((-output).exp(), validate_args=False)


@pytest.fixture(autouse=True)
def only_here():
    """What a test declares is forgotten after it."""
    before = dict(_declared)
    yield
    _declared.clear()
    _declared.update(before)


@pytest.mark.parametrize("posterior", [Snapshots(), Anchored(), Taught(), RandomScales()], ids=str)
def test_posteriors_of_others_are_saved_once_they_declare_a_name(posterior, blobs, tmp_path):
    X, y = blobs
    model = TorchClassifier(posterior=clone(posterior), **CHEAP).fit(X, y)
    with pytest.raises(PersistenceError, match="saved_as"):
        skuq.save(model, tmp_path / "m.skuq")
    saved_as(f"tests.{type(posterior).__name__}")(type(posterior))
    loaded = round_trip(model, tmp_path / "m.skuq")
    assert_same_answers(model, loaded, X)
    for each in (model, loaded):
        each.partial_fit(X, y)
    assert_same_answers(model, loaded, X)


def test_kinds_of_draws_and_likelihoods_are_saved(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2)).astype(np.float32)
    y = rng.exponential(size=60)
    model = TorchRegressor(likelihood=Waiting(), posterior=Stepping(), **CHEAP).fit(X, y)
    loaded = round_trip(model, tmp_path / "m.skuq")
    assert_same_answers(model, loaded, X)
    outputs = loaded.predict_draws(X)
    assert np.ptp(outputs, axis=0).min() > 0


def test_an_undeclared_kind_of_draws_is_refused_with_the_way(blobs, tmp_path):
    X, y = blobs
    model = TorchClassifier(posterior=Stepping(), **CHEAP).fit(X, y)
    skuq.save(model, tmp_path / "m.skuq")
    del _declared["tests.Steps"]
    with pytest.raises(PersistenceError, match=r"Steps, which.*saved_as"):
        skuq.save(model, tmp_path / "other.skuq")
    with pytest.raises(PersistenceError, match=r"'tests\.Steps'.*Import the package"):
        skuq.load(tmp_path / "m.skuq")
    del _declared["tests.Stepping"]
    with pytest.raises(PersistenceError, match="import that package"):
        skuq.load(tmp_path / "m.skuq")


@pytest.mark.parametrize(
    "name", ["Steps", "skuq.Steps", "sklearn.Steps", "a..b", "a.b c", "", "torch.nn.Linear"]
)
def test_names_must_say_whose_they_are(name):
    with pytest.raises(ValueError, match="name of your package"):
        saved_as(name)(type("Other", (PointEstimate,), {}))


def test_a_name_belongs_to_one_class():
    with pytest.raises(ValueError, match="give it another name"):
        saved_as("tests.Steps")(type("Other", (Draws,), {}))
    again = type("Steps", (Draws,), {"__qualname__": Steps.__qualname__, "__module__": __name__})
    assert saved_as("tests.Steps")(again) is again  # a cell of a notebook that ran twice
    assert _declared["tests.Steps"] is again


def test_a_subclass_does_not_inherit_the_name(blobs, tmp_path):
    class Other(Stepping):
        pass

    X, y = blobs
    model = TorchClassifier(posterior=Other(), **CHEAP).fit(X, y)
    with pytest.raises(PersistenceError, match="Other"):
        skuq.save(model, tmp_path / "m.skuq")


@pytest.mark.parametrize("name", [5, None, PointEstimate])
def test_a_name_is_text(name):
    with pytest.raises(TypeError, match=r"saved_as takes the name .*write @saved_as\('mypackage"):
        saved_as(name)
