"""What is saved and loaded gives the same numbers, to the last bit."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from torch import nn

import skuq
from skuq import PersistenceError, TorchClassifier, TorchRegressor, calibration
from skuq._engine._engine import Engine
from skuq.calibration import TemperatureScaler
from skuq.likelihoods import Bernoulli, Categorical, Gaussian, NegativeBinomial, Poisson
from skuq.modules import MLP
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate, Variational
from tests.conftest import global_generators
from tests.likelihoods.test_contract import VARIANTS
from tests.networks import ConvNet, EarlyConvNet, Normed, Plain, Recurrent, ResidualNet, Transformer
from tests.persistence.helpers import CHEAP, answers, assert_same_answers, fitted, round_trip
from tests.test_common import all_likelihoods, all_posteriors

pytest.importorskip("safetensors")

CALIBRATORS = {
    "classification": ("TemperatureScaler", "VectorScaler", "MatrixScaler"),
    "regression": ("VarianceScaler", "QuantileRecalibrator"),
}


def test_every_calibrator_is_tried():
    public = {name for name in calibration.__all__ if name[0].isupper()}
    assert public == {name for names in CALIBRATORS.values() for name in names}


@pytest.mark.parametrize("posterior", all_posteriors(), ids=str)
@pytest.mark.parametrize("likelihood", all_likelihoods(), ids=str)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:the frozen")
def test_pairs(likelihood, posterior, tmp_path):
    model, X, y = fitted(likelihood, posterior)
    path, before = tmp_path / "model.skuq", global_generators()
    loaded = round_trip(model, path)
    assert global_generators() == before
    assert_same_answers(model, loaded, X)
    assert vars(loaded).keys() == vars(model).keys()
    assert repr(loaded) == repr(model)
    for name in CALIBRATORS[likelihood.task]:
        if name == "VarianceScaler" and isinstance(likelihood, (Poisson, NegativeBinomial)):
            continue  # it refuses counts
        calibrator = getattr(calibration, name)(FrozenEstimator(model)).fit(X, y)
        again = round_trip(calibrator, path)
        assert_same_answers(calibrator, again, X)
        assert again.estimator_ is again.estimator  # one network, not two


@pytest.mark.parametrize("likelihood", VARIANTS, ids=str)
@pytest.mark.filterwarnings("ignore:.*has collapsed")
def test_variants_of_likelihoods(likelihood, tmp_path):
    model, X, _ = fitted(likelihood, PointEstimate())
    assert_same_answers(model, round_trip(model, tmp_path / "m.skuq"), X)


def test_training_with_a_module_of_the_user_goes_on(tmp_path):
    """Its private global generators are in the file, too."""
    X, y = fitted(Categorical(), PointEstimate())[1:]
    model = TorchClassifier(ResidualNet, posterior=DeepEnsemble(2), random_state=0)
    model.partial_fit(X, y)
    loaded = round_trip(model, tmp_path / "m.skuq", module=ResidualNet)
    for each in (model, loaded):
        each.partial_fit(X, y)
    assert_same_answers(model, loaded, X)


@pytest.mark.parametrize("posterior", all_posteriors(), ids=str)
def test_a_loaded_estimator_is_a_whole_one(posterior, tmp_path):
    """It is fitted again, goes on training, is cloned and saved as the original would be."""
    X, y = fitted(Categorical(), posterior)[1:]
    model = TorchClassifier(posterior=posterior, **CHEAP)
    for _ in range(2 if posterior.goes_on else 0):
        model.partial_fit(X, y)
    if not posterior.goes_on:
        model.fit(X, y)
    loaded = round_trip(model, tmp_path / "m.skuq")
    assert loaded.histories_ == model.histories_ and loaded.history_ is loaded.histories_[0]
    for each in (model, loaded) if posterior.goes_on else ():
        each.partial_fit(X, y)  # with the optimizers and generators as they were
    assert_same_answers(model, loaded, X)
    for each in (model, loaded):
        each.set_params(warm_start=True).fit(X, y)
    assert_same_answers(model, loaded, X)
    first = (tmp_path / "m.skuq").read_bytes()
    skuq.save(round_trip(model, tmp_path / "m.skuq"), tmp_path / "n.skuq")
    assert (tmp_path / "m.skuq").read_bytes() == (tmp_path / "n.skuq").read_bytes() != first
    again = clone(loaded).set_params(warm_start=False).fit(X, y)
    assert_same_answers(again, TorchClassifier(posterior=posterior, **CHEAP).fit(X, y), X)
    x = torch.tensor(X[:3])
    assert torch.equal(model.draws(x), loaded.draws(x))


class Tied(nn.Module):
    """One weight at two places, a buffer in the state dict, one that is not, and a lazy layer."""

    def __init__(self, n_features, n_outputs):
        super().__init__()
        self.first, self.second = nn.Linear(n_features, 8), nn.Linear(8, 8)
        self.third = nn.Linear(8, 8)
        self.third.weight = self.second.weight
        self.dropout = nn.Dropout(0.3)
        self.register_buffer("shift", torch.randn(8))
        self.register_buffer("scale", torch.rand(8, dtype=torch.float64), persistent=False)
        self.register_buffer("coarse", torch.rand(8).bfloat16())
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.head = nn.LazyLinear(n_outputs)
        self.first.bias.requires_grad_(False)

    def forward(self, x):
        if self.training:
            self.steps += 1
        h = self.third(torch.relu(self.second(torch.relu(self.first(x)))))
        return self.head(self.dropout(h * self.coarse + self.shift) * self.scale.to(x.dtype))


# Variational refuses tied parameters.
SHARING = [one for one in all_posteriors() if not isinstance(one, Variational)]


@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("posterior", SHARING, ids=str)
def test_tied_buffers_lazy_and_precisions(precision, posterior, blobs, tmp_path):
    X, y = blobs
    model = TorchClassifier(
        Tied, posterior=posterior, precision=precision, max_epochs=2, random_state=0
    ).fit(X, y)
    loaded = round_trip(model, tmp_path / "m.skuq", module=Tied)
    assert_same_answers(model, loaded, X)
    module = loaded.module_
    assert module.third.weight is module.second.weight and not module.first.bias.requires_grad
    assert module.steps > 0 and "scale" not in module.state_dict()
    for one, other in zip(model.module_.state_dict().values(), module.state_dict().values()):
        assert one.dtype == other.dtype and torch.equal(one, other)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same_answers(loaded, round_trip(loaded, tmp_path / "m.skuq", module=Tied), X)


IMAGES = {"n_outputs": 3}
SEQUENCES = [(Recurrent, {}), (Recurrent, {"before": False}), (Transformer, {})]


@pytest.mark.parametrize("posterior", all_posteriors(), ids=str)
@pytest.mark.parametrize("module", [ConvNet, EarlyConvNet])
def test_convolutions(module, posterior, tmp_path):
    random = np.random.default_rng(0)
    X, y = random.normal(size=(40, 1, 8, 8)).astype(np.float32), np.arange(40) % 3
    model = TorchClassifier(module, posterior=posterior, max_epochs=2, random_state=0).fit(X, y)
    assert_same_answers(model, round_trip(model, tmp_path / "m.skuq", module=module), X)


@pytest.mark.parametrize(("module", "options"), SEQUENCES)
@pytest.mark.filterwarnings("ignore:.*draws random numbers in training")
def test_sequences(module, options, tmp_path):
    random = np.random.default_rng(0)
    X, y = random.normal(size=(40, 5, 8)).astype(np.float32), np.arange(40) % 3
    prefixed = {f"module__{name}": value for name, value in options.items()}
    model = TorchClassifier(
        module, posterior=MCDropout(4), max_epochs=2, random_state=0, **prefixed
    ).fit(X, y)
    assert_same_answers(model, round_trip(model, tmp_path / "m.skuq", module=module), X)


@pytest.mark.parametrize(
    "norm",
    [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm],
)
def test_parametrised_layers(norm, blobs, tmp_path):
    def normed(n_features, n_outputs):
        return Normed(n_features, n_outputs, norm)

    X, y = blobs
    model = TorchClassifier(normed, posterior=DeepEnsemble(2), max_epochs=2, random_state=0)
    assert_same_answers(model.fit(X, y), round_trip(model, tmp_path / "m.skuq", module=normed), X)


def test_labels_names_and_weights(blobs, tmp_path):
    """Strings, numbers of other dtypes, names of columns, class weights with keys of any kind."""
    pandas = pytest.importorskip("pandas")
    X, y = blobs
    frame = pandas.DataFrame(X, columns=[f"α{i}" for i in range(X.shape[1])])
    for labels, weight in (
        (np.array(["ä", "b\0b", "c" * 40])[y], {"ä": 2.0, "b\0b": 0.5}),
        (np.array(["ä", "b", "c"], dtype=object)[y], "balanced"),
        (y.astype(np.uint8) * 7, {7: 2.5, np.uint8(14): 1}),
        (y == 1, None),
    ):
        model = TorchClassifier(class_weight=weight, **CHEAP).fit(frame, labels)
        loaded = round_trip(model, tmp_path / "m.skuq")
        assert_same_answers(model, loaded, frame)
        assert loaded.classes_.dtype == model.classes_.dtype
        assert loaded.feature_names_in_.tolist() == list(frame.columns)
        assert loaded.class_weight == weight
        with pytest.raises(ValueError, match=r"feature names"):
            loaded.predict(frame.rename(columns={"α0": "β"}))


def test_several_targets_or_labels(tmp_path):
    random = np.random.default_rng(0)
    X = random.normal(size=(80, 4)).astype(np.float32)
    y = X[:, :2] * 3 + random.normal(size=(80, 2))
    model = TorchRegressor(likelihood=Gaussian(heteroscedastic=False), **CHEAP).fit(X, y)
    assert_same_answers(model, round_trip(model, tmp_path / "m.skuq"), X)
    model = TorchClassifier(likelihood=Bernoulli(), **CHEAP).fit(X, (y > 0).astype(int))
    scaler = TemperatureScaler(model, cv=2).fit(X, (y > 0).astype(int))
    assert_same_answers(model, round_trip(model, tmp_path / "m.skuq"), X)
    assert_same_answers(scaler, round_trip(scaler, tmp_path / "m.skuq"), X)


def test_parameters_of_all_kinds(blobs, tmp_path):
    X, y = blobs
    model = TorchClassifier(
        MLP,
        posterior=DeepEnsemble(np.int64(2)),
        optimizer=torch.optim.SGD,
        lr=np.float32(0.01),
        max_epochs=1,
        device=torch.device("cpu"),
        random_state=np.random.RandomState(3),
        module__hidden_layer_sizes=[8, np.int32(4)],
        optimizer__momentum=0.9,
        optimizer__param_groups=[("0.*", {"lr": 0.02})],
        iterator_train__drop_last=True,
    ).fit(X, y)
    loaded = round_trip(model, tmp_path / "m.skuq")
    for name, value in model.get_params().items():
        if name != "random_state":
            assert repr(getattr(loaded, name, loaded.get_params()[name])) == repr(value)
    assert (
        type(loaded.lr) is np.float32
        and type(loaded.get_params()["module__hidden_layer_sizes"][1]) is np.int32
    )
    assert_same_answers(model.fit(X, y), loaded.fit(X, y), X)  # the same stream of random numbers


def test_what_only_fit_needs_becomes_a_note(blobs, tmp_path):
    from skorch.callbacks import EpochScoring

    X, y = blobs
    model = TorchClassifier(
        callbacks=[EpochScoring("accuracy", name="a")],
        optimizer=lambda *args, **kwargs: torch.optim.SGD(*args, **kwargs),
        **CHEAP,
    ).fit(X, y)
    with pytest.warns(UserWarning, match=r"callbacks = .*EpochScoring"):
        skuq.save(model, tmp_path / "m.skuq")
    loaded = skuq.load(tmp_path / "m.skuq")
    assert_same_answers(model, loaded, X)
    assert "not saved" in repr(loaded.callbacks) and loaded.histories_ == model.histories_
    with pytest.raises(ValueError, match=r"callbacks was not saved .* set_params"):
        loaded.fit(X, y)
    loaded.set_params(optimizer=torch.optim.SGD, callbacks=None).fit(X, y)


def test_callbacks_of_scikit_learn_are_left_out(blobs, tmp_path):
    callback = pytest.importorskip("sklearn.callback")
    monitor = callback.ScoringMonitor(scoring="neg_log_loss")
    model = TorchClassifier(**CHEAP).set_callbacks(monitor).fit(*blobs)
    with pytest.warns(UserWarning, match=r"set_callbacks"):
        skuq.save(model, tmp_path / "m.skuq")
    assert_same_answers(model, skuq.load(tmp_path / "m.skuq"), blobs[0])


# -- the class of the user -------------------------------------------------------------------------


class Other(Plain):
    """The same tensors, other numbers."""

    def forward(self, x):
        return torch.tanh(super().forward(x))


class Renamed(Plain):
    """Another name only."""


def test_the_module_must_be_the_one_that_was_saved(blobs, tmp_path):
    X, y = blobs
    model = TorchClassifier(
        Plain, posterior=PointEstimate(), max_epochs=2, random_state=0, module__width=8
    ).fit(X, y)
    path = tmp_path / "m.skuq"
    skuq.save(model, path)
    with pytest.raises(PersistenceError, match=r"'Plain' \(from 'tests.networks'\).*module=\.\.\."):
        skuq.load(path)
    with pytest.raises(PersistenceError, match=r"does not give its outputs"):
        skuq.load(path, module=Other)
    with pytest.raises(PersistenceError, match=r"lacks .*Give the class"):
        skuq.load(path, module=ResidualNet)
    with pytest.raises(PersistenceError, match=r"has shape \(16, 10\).*but \(8, 10\)"):
        skuq.load(path, module=lambda n_features, n_outputs, width: Plain(n_features, n_outputs))
    with pytest.raises(PersistenceError, match=r"unexpected keyword argument 'width'"):
        skuq.load(path, module=lambda: Plain(10, 3))
    with pytest.raises(TypeError, match=r"a class or a factory"):
        skuq.load(path, module=Plain(10, 3))
    with pytest.warns(UserWarning, match=r"saved with Plain, and is loaded with Renamed"):
        assert_same_answers(model, skuq.load(path, module=Renamed), X)
    assert_same_answers(model, skuq.load(path, module={"Plain": Plain}), X)
    skuq.save(TorchClassifier(**CHEAP).fit(X, y), path)
    with pytest.raises(PersistenceError, match=r"module was given, but no network"):
        skuq.load(path, module=Plain)


class Counting(nn.Module):
    """Training changes what is no buffer."""

    def __init__(self, n_features, n_outputs):
        super().__init__()
        self.layer, self.n_calls = nn.Linear(n_features, n_outputs), 0

    def forward(self, x):
        if self.training:
            self.n_calls += 1
        return self.layer(x) * (1 + self.n_calls)


def test_what_is_no_buffer_is_missed(blobs, tmp_path):
    model = TorchClassifier(Counting, posterior=PointEstimate(), max_epochs=2).fit(*blobs)
    with pytest.raises(PersistenceError, match=r"attributes that training changed"):
        round_trip(model, tmp_path / "m.skuq", module=Counting)


class Drawing(nn.Module):
    """A constructor that draws what it does not register."""

    def __init__(self, n_features, n_outputs):
        super().__init__()
        self.layer, self.factor = nn.Linear(n_features, n_outputs), float(torch.rand(()))

    def forward(self, x):
        return self.layer(x) * self.factor


def test_a_constructor_draws_the_same_again(blobs, tmp_path):
    model = TorchClassifier(Drawing, posterior=PointEstimate(), max_epochs=2, random_state=5).fit(
        *blobs
    )
    torch.rand(7)
    loaded = round_trip(model, tmp_path / "m.skuq", module=Drawing)
    assert_same_answers(model, loaded, blobs[0])


# -- devices ---------------------------------------------------------------------------------------


def test_a_file_of_another_device(blobs, tmp_path, monkeypatch):
    """As a file from a GPU: parameters ask for one, and there is none."""
    if torch.cuda.is_available():
        pytest.skip("there is one")
    model = TorchClassifier(**CHEAP).fit(*blobs)
    model.device, model.device_ = "cuda", "cuda:0"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = round_trip(model, tmp_path / "m.skuq")
    assert loaded.device == "cuda" and loaded.device_ == "cpu"
    assert_same_answers(model, loaded, blobs[0])
    with pytest.raises(ValueError, match=r"device='cuda' is not available here"):
        skuq.load(tmp_path / "m.skuq", device="cuda")
    moved = []
    monkeypatch.setattr(Engine, "to", lambda engine, device: moved.append(device))
    assert skuq.load(tmp_path / "m.skuq", device="meta").device_ == "meta"
    assert moved == [torch.device("meta")]


@pytest.mark.gpu
@pytest.mark.parametrize("posterior", all_posteriors(), ids=str)
def test_between_devices(posterior, blobs, tmp_path):
    X, y = blobs
    model = TorchClassifier(posterior=posterior, device="cuda", **CHEAP).fit(X, y)
    loaded = round_trip(model, tmp_path / "m.skuq", device="cpu")
    for name, expected in answers(model, X).items():
        np.testing.assert_allclose(answers(loaded, X)[name], expected, atol=1e-5)
    back = round_trip(loaded, tmp_path / "m.skuq", device="cuda")
    assert back.device_ == "cuda"
    assert_same_answers(model, back, X)


# -- what is refused -------------------------------------------------------------------------------


class ThirdParty(PointEstimate):
    """A posterior that skuq does not know."""


def test_what_cannot_be_saved(blobs, tmp_path):
    path = tmp_path / "m.skuq"
    path.write_text("kept")
    with pytest.raises(NotFittedError):
        skuq.save(TorchClassifier(), path)
    with pytest.raises(PersistenceError, match=r"takes a fitted estimator, got Plain"):
        skuq.save(Plain(2, 2), path)
    with pytest.raises(PersistenceError, match=r"takes a fitted estimator, got .*Meta|type"):
        skuq.save(TorchClassifier, path)
    model = TorchClassifier(posterior=ThirdParty(), **CHEAP).fit(*blobs)
    with pytest.raises(PersistenceError, match=r"posterior is an object of .*ThirdParty.*saved_as"):
        skuq.save(model, path)
    body = nn.Linear(10, 4)

    def made(n_outputs, body):
        return nn.Sequential(body, nn.ReLU(), nn.Dropout(0.1), nn.Linear(4, n_outputs))

    model = TorchClassifier(made, module__body=body, max_epochs=1).fit(*blobs)
    with pytest.raises(PersistenceError, match=r"module__body.*Linear.*Let a function"):
        skuq.save(model, path)
    assert path.read_text() == "kept" and [p.name for p in tmp_path.iterdir()] == ["m.skuq"]


def test_without_safetensors(blobs, tmp_path, monkeypatch):
    import sys

    model = TorchClassifier(**CHEAP).fit(*blobs)
    skuq.save(model, tmp_path / "m.skuq")
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    for call in (lambda: skuq.save(model, tmp_path / "n.skuq"),
                 lambda: skuq.load(tmp_path / "m.skuq")):  # fmt: skip
        with pytest.raises(ImportError, match=r"pip install 'skuq\[save\]'"):
            call()
    assert skuq.inspect(tmp_path / "m.skuq").format == 1
