"""The engine gives what a hand-written loop gives, for any module, row by row."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from skuq import TorchClassifier, TorchRegressor
from skuq._engine._draws import Draws
from skuq._engine._engine import Engine
from skuq._networks._module import Numerics
from skuq._training import _building
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate
from tests import networks

FLOAT64 = Numerics(torch.device("cpu"), "float64")

IMAGES = (1, 8, 8)
SEQUENCE = (6, 8)
MODULES = {
    "mlp": (None, (10,), {"module__hidden_layer_sizes": (16,)}),
    "conv, dropout in its head": (networks.ConvNet, IMAGES, {}),
    "conv, dropout before BatchNorm": (networks.EarlyConvNet, IMAGES, {}),
    "residual, one dropout layer at two places": (networks.ResidualNet, (10,), {}),
    "LSTM after dropout": (networks.Recurrent, SEQUENCE, {"module__before": True}),
    "LSTM before dropout": (networks.Recurrent, SEQUENCE, {"module__before": False}),
    "transformer": (networks.Transformer, SEQUENCE, {}),
}


def problem(shape, n_samples=40, seed=0):
    random = np.random.default_rng(seed)
    X = random.normal(size=(n_samples, *shape))
    return X, (X.reshape(n_samples, -1)[:, :3].argmax(axis=1))


def fitted(name, posterior, precision="float64"):
    module, shape, options = MODULES[name]
    X, y = problem(shape)
    classifier = TorchClassifier(
        module, posterior=posterior, max_epochs=2, precision=precision, random_state=0, **options
    )
    return classifier.fit(X, y), X


def with_masks(module, masks, m):
    """An independent reading of the draws: hooks that multiply by mask m, layer by layer."""
    module = copy.deepcopy(module)
    for name, layer in module.named_modules():
        own = [drawn for mask, drawn in masks if mask.layer == name]
        if not own:
            continue
        calls = iter(own)

        def replace(layer, inputs, output, calls=calls):
            return inputs[0] * next(calls)[m] / (1 - layer.p)

        layer.register_forward_hook(replace)
        if isinstance(layer, nn.Dropout):
            layer.eval()
    for layer in module.modules():  # the hooks of a fused encoder layer would not be called
        if isinstance(layer, nn.TransformerEncoderLayer):
            layer.activation_relu_or_gelu = 0
    return module


def hand_loop(classifier, X):
    """Draw after draw, with nothing of the engine."""
    draws = classifier._engine.draws
    tensors = draws.tensors(0, draws.n_draws)
    outputs = []
    for m in range(draws.n_draws):
        if isinstance(classifier.posterior_, MCDropout):
            module = with_masks(classifier.module_, list(draws.masks(0, draws.n_draws)), m)
        else:
            module = copy.deepcopy(classifier.module_)
            module.load_state_dict({k: v[m] for k, v in tensors.items()}, strict=False)
        with torch.no_grad():
            outputs.append(module.eval()(torch.as_tensor(X)))
    return torch.stack(outputs)


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("posterior", [MCDropout(4), DeepEnsemble(2)], ids=str)
@pytest.mark.filterwarnings("ignore:Transformer draws random:UserWarning")
def test_equals_the_hand_loop(name, posterior):
    classifier, X = fitted(name, posterior)
    expected = hand_loop(classifier, X)
    engine = classifier._engine
    for vectorized in {engine.vectorized, False}:
        engine.vectorized = vectorized
        actual = classifier.draws(torch.as_tensor(X))
        np.testing.assert_allclose(actual.numpy(), expected.numpy(), rtol=0, atol=1e-10)
    spread = actual.std(0).max()
    assert spread > 1e-3  # the draws do differ


@pytest.mark.parametrize(
    ("name", "vectorized"),
    [("mlp", True), ("conv, dropout in its head", True), ("LSTM before dropout", True),
     ("LSTM after dropout", False)],
)  # fmt: skip
def test_vmap_where_it_can(name, vectorized):
    assert fitted(name, MCDropout(3))[0]._engine.vectorized is vectorized


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("posterior", [MCDropout(4), DeepEnsemble(2), PointEstimate()], ids=str)
@pytest.mark.filterwarnings("ignore:Transformer draws random:UserWarning")
def test_a_row_gives_the_same_bits_in_any_company(name, posterior):
    classifier, X = fitted(name, posterior, precision="float32")
    X = np.concatenate([X] * 3)[: classifier._engine.n_rows + 5]
    proba, uncertainty = classifier.predict_proba(X), classifier.predict_uncertainty(X, "all")
    order = np.random.default_rng(0).permutation(len(X))
    assert np.array_equal(classifier.predict_proba(X[order]), proba[order])
    for part, whole in zip(classifier.predict_uncertainty(X[order], "all"), uncertainty):
        assert np.array_equal(part, whole[order])
    for row in (0, 7, len(X) - 1):
        assert np.array_equal(classifier.predict_proba(X[row : row + 1]), proba[row : row + 1])


@pytest.mark.parametrize("posterior", [MCDropout(5), DeepEnsemble(3), PointEstimate()], ids=str)
def test_a_row_of_a_regression_gives_the_same_bits_in_any_company(posterior):
    X, _ = problem((10,), 300)
    y = np.column_stack([X[:, 0] ** 2, X[:, 1], X[:, 2] * 100])
    regressor = TorchRegressor(posterior=posterior, max_epochs=3, random_state=0).fit(X, y)
    order = np.random.default_rng(0).permutation(len(X))
    for ask in (regressor.predict, regressor.predict_interval, regressor.predict_uncertainty):
        whole = ask(X)
        assert np.array_equal(ask(X[order]), whole[order])
        assert np.array_equal(ask(X[41:42]), whole[41:42])


def test_what_comes_before_the_first_dropout_is_computed_once():
    calls = []

    class Counted(nn.Module):
        def forward(self, x):
            calls.append(x.shape)
            return x

    class Net(networks.Plain):
        def __init__(self, n_features, n_outputs):
            super().__init__(n_features, n_outputs)
            self.layers = nn.Sequential(
                nn.Linear(n_features, 8), Counted(), nn.Dropout(0.5), nn.Linear(8, n_outputs)
            )

    X, y = problem((10,))
    classifier = TorchClassifier(Net, posterior=MCDropout(50), max_epochs=1).fit(X, y)
    classifier.predict(X[:1])  # the first prediction decides on the size of chunks
    calls.clear()
    classifier.predict_uncertainty(X)
    assert calls == [(classifier._engine.n_rows, 8)]  # one call, without an axis of draws


def test_draws_are_differentiable_in_x():
    classifier, X = fitted("conv, dropout in its head", MCDropout(3))
    x = torch.as_tensor(X[:4]).requires_grad_()
    total = lambda x: classifier.draws(x).square().mean(0).sum()
    (gradient,) = torch.autograd.grad(total(x), x)
    step = torch.zeros_like(x)
    step[1, 0, 3, 4] = 1e-6
    with torch.no_grad():
        slope = (total(x + step) - total(x - step)) / 2e-6
    assert gradient[1, 0, 3, 4] == pytest.approx(float(slope), abs=1e-6)
    classifier.draws(x).sum().backward()
    assert all(p.grad is None for p in classifier.module_.parameters())


def test_draws_are_split_where_a_few_rows_do_not_fit(monkeypatch):
    classifier, X = fitted("mlp", MCDropout(7))
    whole = classifier.predict_uncertainty(X, "all")
    monkeypatch.setattr("skuq._engine._engine._BLOCK_BYTES", {"cpu": 1_000})
    del classifier._engine.n_draws_at_once  # is decided anew
    assert 1 <= classifier._engine.n_draws_at_once < 7
    for part, expected in zip(classifier.predict_uncertainty(X, "all"), whole):
        np.testing.assert_allclose(part, expected, atol=1e-12)


class Grows(nn.Module):
    """Counts its calls in a buffer, in eval mode too, and lets the count change its output."""

    def __init__(self, n_features, n_outputs):
        super().__init__()
        self.linear = nn.Linear(n_features, n_outputs)
        self.dropout = nn.Dropout(0.5)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.linear(self.dropout(x)) + 1e-6 * self.calls


@pytest.mark.parametrize("posterior", [MCDropout(3), DeepEnsemble(2), PointEstimate()], ids=str)
@pytest.mark.parametrize("module", [Grows, networks.ConvNet])
def test_buffers_are_bit_identical_after_predicting(posterior, module):
    X, y = problem((10,) if module is Grows else IMAGES)
    classifier = TorchClassifier(module, posterior=posterior, max_epochs=2).fit(X, y)
    before = {k: v.clone() for k, v in classifier.module_.state_dict().items()}
    first = classifier.predict_proba(X)
    classifier.predict_uncertainty(X)
    classifier.predict_draws(X)
    classifier.draws(torch.as_tensor(X))
    assert np.array_equal(classifier.predict_proba(X), first)
    for name, tensor in classifier.module_.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not any(layer.training for layer in classifier.module_.modules())


def test_training_mode_of_the_user_s_module_does_not_matter():
    classifier, X = fitted("conv, dropout in its head", MCDropout(3))
    before = classifier.predict_proba(X)
    classifier.module_.train()
    assert np.array_equal(classifier.predict_proba(X), before)


def test_a_module_that_fails_at_prediction_leaves_no_trace():
    class Fragile(networks.Plain):
        def forward(self, x):
            if float(x.abs().max()) > 50:
                raise RuntimeError("too large")
            return super().forward(x)

    X, y = problem((10,))
    classifier = TorchClassifier(Fragile, posterior=DeepEnsemble(2), max_epochs=1).fit(X, y)
    before = classifier.predict_proba(X)
    with pytest.raises(RuntimeError, match="too large"):
        classifier.predict_proba(X * 1000)
    assert np.array_equal(classifier.predict_proba(X), before)
    assert not classifier.module_.training


def test_output_that_is_not_finite_is_an_error():
    class Explodes(networks.Plain):
        def forward(self, x):
            return super().forward(x) / (x[:, :1] != 77)

    X, y = problem((10,))
    classifier = TorchClassifier(Explodes, posterior=PointEstimate(), max_epochs=1).fit(X, y)
    X[3, 0] = 77
    with pytest.raises(ValueError, match="NaN or infinity for row 3"):
        classifier.predict_proba(X)


def test_an_error_of_the_module_is_shown_as_such():
    module = nn.Linear(4, 2)

    class Broken(nn.Linear):
        def forward(self, x):
            raise KeyError("mine")

    broken = Broken(4, 2)
    stacked = {"weight": torch.stack([module.weight, module.weight]).detach()}
    with pytest.raises(KeyError, match="mine"):
        Engine(Draws(broken, stacked), torch.zeros(3, 4), FLOAT64)


def test_out_of_memory_under_vmap_is_not_taken_for_a_reason_to_loop():
    class Greedy(nn.Linear):
        def forward(self, x):
            if torch._C._functorch.is_batchedtensor(self.weight):
                raise torch.OutOfMemoryError("no memory")
            return super().forward(x)

    greedy = Greedy(4, 2).double()
    stacked = {"weight": torch.stack([greedy.weight, greedy.weight]).detach()}
    with pytest.raises(torch.OutOfMemoryError):
        Engine(Draws(greedy, stacked), torch.zeros(3, 4, dtype=torch.float64), FLOAT64)


def test_a_forward_that_vmap_gets_wrong_is_looped():
    class Hides(nn.Linear):
        def forward(self, x):
            try:
                return x * self.weight.sum().item()
            except RuntimeError:
                return torch.zeros_like(x)

    module = Hides(4, 4).double()
    stacked = {"weight": torch.stack([module.weight, 2 * module.weight]).detach()}
    x = torch.randn(3, 4, dtype=torch.float64)
    engine = Engine(Draws(module, stacked), x, FLOAT64)
    assert not engine.vectorized
    torch.testing.assert_close(engine(x)[1], 2 * engine(x)[0])


def test_at_odd_widths_a_row_gives_the_same_to_rounding():
    """Small matrix products depend on the alignment of a row; see the engine's docstring."""
    X, y = problem((17,), 300)
    classifier = TorchClassifier(
        posterior=MCDropout(5), max_epochs=2, random_state=0, module__hidden_layer_sizes=(7,)
    ).fit(X, y)
    proba = classifier.predict_proba(X)
    np.testing.assert_allclose(classifier.predict_proba(X[::-1])[::-1], proba, atol=1e-6)
    np.testing.assert_allclose(classifier.predict_proba(X[41:42]), proba[41:42], atol=1e-6)


# -- the layout of images -------------------------------------------------------------------------


class Viewing(networks.ConvNet):
    """Asks for a view of memory, which only one layout has."""

    def forward(self, x):
        features = self.trunk[:4](x)
        return self.head(features.view(len(x), -1))


class ViewingInTraining(Viewing):
    def forward(self, x):
        return super().forward(x) if self.training else networks.ConvNet.forward(self, x)


@pytest.mark.parametrize(
    ("module", "shape", "precision", "last"),
    [
        (networks.ConvNet, (1, 8, 8), "float32", True),
        (networks.EarlyConvNet, (1, 8, 8), "float32", True),
        (networks.ConvNet, (1, 8, 8), "float64", False),
        (Viewing, (1, 8, 8), "float32", False),
        (ViewingInTraining, (1, 8, 8), "float32", False),
        (networks.ResidualNet, (10,), "float32", False),
    ],
)
def test_images_are_channels_last_where_that_is_fast_and_the_same(module, shape, precision, last):
    X, y = problem(shape)
    options = {"posterior": MCDropout(4), "max_epochs": 2, "random_state": 0}
    classifier = TorchClassifier(module, precision=precision, **options).fit(X, y)
    numerics = classifier._engine.numerics
    assert numerics.channels_last is last
    plain = copy.deepcopy(classifier)
    plain._engine.numerics = dataclasses.replace(numerics, channels_last=False)
    np.testing.assert_allclose(
        classifier.predict_proba(X), plain.predict_proba(X), rtol=0, atol=1e-5
    )
    for name, parameter in classifier.module_.named_parameters():
        assert parameter.is_contiguous(), name


def test_training_channels_last_gives_the_same_network(monkeypatch):
    X, y = problem((1, 8, 8))
    fit = lambda: TorchClassifier(
        networks.ConvNet, posterior=PointEstimate(), optimizer=torch.optim.SGD, random_state=0
    ).fit(X, y)
    last = fit()
    monkeypatch.setattr(_building, "with_best_layout", lambda numerics, module, x: numerics)
    first = fit()
    assert last._engine.numerics.channels_last and not first._engine.numerics.channels_last
    for a, b in zip(last.module_.parameters(), first.module_.parameters()):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4)


def test_draws_that_do_not_fit_their_module_are_refused():
    module, x = nn.Linear(2, 1).double(), torch.ones(1, 2).double()
    good = torch.zeros(3, 1, 2).double()
    Draws(module, {"weight": good}).check(x, FLOAT64)
    for tensors, message in [
        ({"weights": good}, r"'weights' have shape \(3, 1, 2\), expected None"),
        ({"weight": good[:, 0]}, r"'weight' have shape \(3, 2\), expected \(3, 1, 2\)"),
        ({"weight": good, "bias": good[:2, 0]}, r"'bias' .* expected \(3, 1\)"),
        ({0: good}, "not of tensors by name"),
    ]:
        with pytest.raises(ValueError, match=message):
            Draws(module, tensors).check(x, FLOAT64)


# -- one evaluation -------------------------------------------------------------------------------


@pytest.mark.parametrize("posterior", [MCDropout(6), PointEstimate()], ids=str)
def test_probabilities_and_uncertainty_from_one_evaluation(posterior, monkeypatch):
    classifier, X = fitted("mlp", posterior)
    expected = classifier.predict_proba(X), classifier.predict_uncertainty(X, "all")
    calls, original = [], Engine._outputs
    monkeypatch.setattr(
        Engine, "_outputs", lambda self, *a, **k: calls.append(1) or original(self, *a, **k)
    )
    proba, uncertainty = classifier.predict_proba(X, return_uncertainty=True)
    assert len(calls) == 1
    assert np.array_equal(proba, expected[0])
    for part, whole in zip(uncertainty, expected[1]):
        assert np.array_equal(part, whole)


def test_blocks_that_are_reduced_do_not_change_results(monkeypatch):
    classifier, X = fitted("mlp", MCDropout(6))
    X = np.concatenate([X] * 9)
    whole = classifier.predict_proba(X), classifier.predict_uncertainty(X, "all")
    classifier._engine.n_reduced = 16
    assert np.array_equal(classifier.predict_proba(X), whole[0])
    for part, expected in zip(classifier.predict_uncertainty(X, "all"), whole[1]):
        np.testing.assert_allclose(part, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("measure", ["entropy", "variance"])
@pytest.mark.parametrize("n_classes", [2, 3, 10])
def test_one_draw_has_no_epistemic_uncertainty_at_all(measure, n_classes):
    X = np.random.default_rng(0).normal(size=(300, 10))
    y = np.arange(300) % n_classes
    fitted = TorchClassifier(posterior=PointEstimate(), max_epochs=3, random_state=0).fit(X, y)
    parts = fitted.predict_uncertainty(X, "all", measure=measure)
    assert not parts.epistemic.any()
    assert np.array_equal(parts.total, parts.aleatoric)
