"""MC dropout: which layers are drawn, what a mask does, what is refused."""

import numpy as np
import pytest
import torch
from sklearn.model_selection import validation_curve
from torch import nn

from skuq import TorchClassifier, TorchRegressor
from skuq._networks._dropout import Sampler, apply_mask, driven, mask_shape
from skuq.likelihoods import Gaussian
from skuq.posteriors import MCDropout
from tests import networks

X = np.random.default_rng(0).normal(size=(40, 10))
Y = (X[:, 0] > 0).astype(int)


def fit(module, X=X, y=Y, n_draws=20, **options):
    options = {"max_epochs": 2, "random_state": 0, **options}
    return TorchClassifier(module, posterior=MCDropout(n_draws), **options).fit(X, y)


def test_variance_of_dropout_and_a_linear_layer():
    """Var = p / (1 − p) Σ w_i² x_i², and the mean is w·x."""
    n_draws, p = 20_000, 0.3

    class Net(nn.Sequential):
        def __init__(self, n_features, n_outputs):
            super().__init__(nn.Dropout(p), nn.Linear(n_features, n_outputs))

    regressor = TorchRegressor(
        Net, posterior=MCDropout(n_draws), likelihood=Gaussian(heteroscedastic=False),
        precision="float64", max_epochs=3, random_state=0,
    )  # fmt: skip
    y = X @ np.arange(10.0)
    regressor.fit(X, y)
    w = regressor.module_[1].weight.detach().numpy()[0]
    b = float(regressor.module_[1].bias.detach()[0])
    scale, location = regressor.likelihood_.scale_[0], regressor.likelihood_.location_[0]
    expected = p / (1 - p) * (X[:5] ** 2 @ w**2) * scale**2
    actual = regressor.predict_uncertainty(X[:5], kind="epistemic")
    np.testing.assert_allclose(actual, expected, rtol=5 * np.sqrt(2 / n_draws))
    error = 5 * np.sqrt(expected / n_draws)
    assert (np.abs(regressor.predict(X[:5]) - ((X[:5] @ w + b) * scale + location)) < error).all()


LAYERS = [
    (nn.Dropout(0.4), (500, 6)),
    (nn.Dropout1d(0.4), (500, 6, 5)),
    (nn.Dropout2d(0.4), (500, 6, 5, 4)),
    (nn.Dropout2d(0.4), (500, 6)),
    (nn.Dropout3d(0.4), (500, 6, 3, 2, 2)),
    (nn.AlphaDropout(0.4), (500, 6)),
    (nn.FeatureAlphaDropout(0.4), (500, 6, 5)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda v: str(v))
@pytest.mark.filterwarnings("ignore:dropout2d. Received a 2-D input:UserWarning")
def test_a_mask_does_what_torch_does(layer, shape):
    """Same values that a dropped and a kept unit become, and whole channels where torch does."""
    x = torch.ones(shape, dtype=torch.float64)
    layer.train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = layer(x)
    keep = torch.ones(mask_shape(layer, x.shape), dtype=torch.float64)
    kept, dropped = apply_mask(layer, x, keep), apply_mask(layer, x, 0 * keep)
    values = theirs.unique()
    torch.testing.assert_close(values, torch.cat([dropped, kept]).unique())
    assert dropped.shape == theirs.shape
    whole = theirs.flatten(2).var(2).max() == 0 if theirs.ndim > 2 else True
    channelwise = keep.shape != x.shape
    assert whole == channelwise or theirs.ndim == 2
    with driven(layer, Sampler(torch.Generator().manual_seed(0))):
        ours = layer(x)
    torch.testing.assert_close(ours.unique(), values)
    assert float((ours == values[0]).double().mean()) == pytest.approx(
        float((theirs == values[0]).double().mean()), abs=0.06
    )
    assert type(layer).__module__.startswith("torch")  # the class is itself again


def test_alpha_dropout_keeps_mean_and_variance():
    layer = nn.AlphaDropout(0.3).train()
    x = torch.randn(200_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with driven(layer, Sampler(torch.Generator().manual_seed(1))):
        y = layer(x)
    assert float(y.mean()) == pytest.approx(0, abs=0.02)
    assert float(y.std()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("p", [0.0, 1.0])
@pytest.mark.parametrize("kind", [nn.Dropout, nn.AlphaDropout])
def test_rates_of_zero_and_one(kind, p):
    layer, x = kind(p).train(), torch.ones(4, 3)
    with driven(layer, Sampler(torch.Generator())):
        assert torch.equal(layer(x), x if p == 0 else 0 * x)


def test_every_place_has_its_own_mask():
    """A shared layer is drawn once for each of its calls, of the right shape."""
    classifier = fit(networks.ResidualNet)
    masks = classifier._engine.draws.tensors(0, 20)
    assert {name: tuple(m.shape) for name, m in masks.items()} == {
        "dropout.mask_0": (20, 16),
        "dropout.mask_1": (20, 16),
    }
    assert not torch.equal(masks["dropout.mask_0"], masks["dropout.mask_1"])
    assert float(masks["dropout.mask_0"].mean()) == pytest.approx(0.8, abs=0.08)


def test_draws_do_not_depend_on_their_number():
    few, many = fit(networks.ResidualNet, n_draws=3), fit(networks.ResidualNet, n_draws=9)
    np.testing.assert_allclose(few.predict_draws(X), many.predict_draws(X)[:3], atol=1e-6)


def test_masks_too_large_to_keep_are_drawn_again(monkeypatch):
    kept = fit(networks.ResidualNet)
    expected = kept.predict_uncertainty(X)
    monkeypatch.setattr("skuq.posteriors._mc_dropout._KEEP_IN_MEMORY", 0)
    again = fit(networks.ResidualNet)
    assert np.array_equal(again.predict_uncertainty(X), expected)
    assert again._engine.draws._cache is None


class Readers(nn.Module):
    """Dropout that is read by one linear layer, by two, by one and a sum, by one that is called
    twice, and by one whose weight is tied."""

    def __init__(self, n_features, n_outputs, kind="one"):
        super().__init__()
        self.kind = kind
        self.first = nn.Linear(n_features, 6)
        self.dropout = nn.AlphaDropout(0.4) if kind == "alpha" else nn.Dropout(0.4)
        self.inner, self.other = nn.Linear(6, 6), nn.Linear(6, 6)
        self.last = nn.Linear(6, n_outputs)
        if kind == "tied":
            self.other.weight = self.inner.weight

    def forward(self, x):
        h = self.dropout(torch.tanh(self.first(x)))
        if self.kind == "sequence":
            h = self.dropout(h[:, None].repeat(1, 2, 1))
            return self.last(self.inner(h).mean(1))
        out = self.inner(h)
        if self.kind in ("two", "tied"):
            out = out + self.other(h)
        if self.kind == "sum":
            out = out + h
        if self.kind == "detached":
            out = out + h.detach().argmax(1, keepdim=True)
        if self.kind == "twice":
            out = self.inner(torch.tanh(out))
        return self.last(torch.tanh(out))


@pytest.mark.parametrize(
    "kind", ["one", "two", "tied", "sum", "detached", "twice", "alpha", "sequence"]
)
def test_masks_in_weights(kind):
    """Only where a linear layer alone reads what dropout returns; and the numbers are the same."""
    classifier = fit(Readers, module__kind=kind, precision="float64")
    draws = classifier._engine.draws
    drawn = draws.tensors(0, 20)
    folded = {"one": ["inner.weight"], "sequence": []}.get(kind, [])
    assert [name for name in drawn if name.endswith("weight")] == folded
    actual = classifier.draws(torch.as_tensor(X)).numpy()
    module, masks = classifier.module_, list(draws.masks(0, 20))
    for m in range(20):
        calls = iter([mask[m] for _, mask in masks])
        with driven(module, lambda layer, x, calls=calls: apply_mask(layer, x, next(calls))):
            expected = module(torch.as_tensor(X)).detach()
        np.testing.assert_allclose(actual[m], expected, rtol=0, atol=1e-12)


def test_large_weights_are_not_masked_for_each_draw(monkeypatch):
    expected = fit(Readers, precision="float64").predict_proba(X)
    monkeypatch.setattr("skuq.posteriors._mc_dropout._WEIGHT_BYTES", 100)
    classifier = fit(Readers, precision="float64")
    assert list(classifier._engine.draws.tensors(0, 20)) == ["dropout.mask_0"]
    np.testing.assert_allclose(classifier.predict_proba(X), expected, rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore:Transformer draws random:UserWarning")
def test_a_transformer_is_uncertain():
    """In eval mode under no_grad torch's fused path would never call its dropouts."""
    sequences = X[:, :8, None].repeat(8, axis=2)
    classifier = fit(networks.Transformer, sequences)
    with torch.no_grad():
        epistemic = classifier.predict_uncertainty(sequences, kind="epistemic")
    assert (epistemic > 1e-6).all()


def test_dropout_inside_attention_is_named():
    sequences = X[:, :8, None].repeat(8, axis=2)
    with pytest.warns(UserWarning, match=r"encoder.layers.0.self_attn \(MultiheadAttention\)") as w:
        fit(networks.Transformer, sequences)
    assert len([x for x in w if "draws random numbers" in str(x.message)]) == 1


def test_functional_dropout_is_named_and_off():
    with pytest.warns(UserWarning, match=r"Functional.forward.*samples only dropout;"):
        classifier = fit(networks.Functional, module__layer_too=True)
    assert np.array_equal(classifier.predict_proba(X), classifier.predict_proba(X))


def test_dropout_of_an_lstm_is_named():
    class Net(networks.Recurrent):
        def __init__(self, n_outputs):
            super().__init__(n_outputs, before=False)
            self.lstm = nn.LSTM(8, 8, num_layers=2, dropout=0.4, batch_first=True)

    sequences = X[:, :8, None].repeat(8, axis=2)
    with pytest.warns(UserWarning, match=r"lstm \(LSTM\)"):
        fit(Net, sequences)


def test_a_plain_net_raises_no_false_alarm():
    fit(networks.ConvNet, X[:, :1, None, None].repeat(8, 2).repeat(8, 3))  # warnings are errors


@pytest.mark.parametrize("module", [networks.Plain, networks.Functional])
def test_no_dropout_layer(module):
    expected = (
        f"{module.__name__} has no nn.Dropout with p > 0: add one, or pass "
        r"posterior=DeepEnsemble\(\)"
    )
    with pytest.raises(ValueError, match=expected):
        fit(module)


def test_a_rate_of_zero_is_a_single_function():
    with pytest.warns(UserWarning, match=r"every nn.Dropout layer of MLP has p = 0"):
        fitted = fit(None, module__dropout=0.0)
    assert fitted.predict_draws(X).shape[0] == 1
    assert (fitted.predict_uncertainty(X, kind="epistemic") == 0).all()


def test_a_search_over_rates_has_no_silent_nan():
    """scikit-learn's validation_curve says nothing about fits that fail."""
    with pytest.warns(UserWarning, match="p = 0"):
        _, scores = validation_curve(
            TorchClassifier(posterior=MCDropout(), max_epochs=2, random_state=0),
            X,
            Y,
            param_name="module__dropout",
            param_range=[0.0, 0.2],
            cv=2,
        )
    assert np.isfinite(scores).all()


def test_a_layer_that_is_not_called():
    class Net(networks.ResidualNet):
        def __init__(self, n_features, n_outputs):
            super().__init__(n_features, n_outputs)
            self.unused = nn.Dropout(0.5)

    with pytest.raises(ValueError, match="'unused' of Net has p > 0 but is not called"):
        fit(Net)


@pytest.mark.filterwarnings("ignore:Transformer draws random:UserWarning")
def test_a_batch_axis_that_is_not_the_first():
    sequences = X[:, :8, None].repeat(8, axis=2)
    with pytest.raises(ValueError, match=r"not the first: .* batch_first=True"):
        fit(networks.Transformer, sequences, module__batch_first=False)


def test_dropout1d_without_a_channel_axis():
    class Net(nn.Sequential):
        def __init__(self, n_features, n_outputs):
            super().__init__(nn.Dropout1d(0.5), nn.Linear(n_features, n_outputs))

    with pytest.raises(ValueError, match=r"Dropout1d layer '0' .* Use nn.Dropout"):
        fit(Net)


class Pooled(nn.Module):
    """Takes sequences of any length."""

    def __init__(self, n_outputs, layer=nn.Dropout):
        super().__init__()
        self.conv, self.dropout = nn.Conv2d(1, 4, 3, padding=1), layer(0.5)
        self.head = nn.Linear(4, n_outputs)

    def forward(self, x):
        return self.head(self.dropout(self.conv(x)).mean((2, 3)))


def test_another_trailing_shape_at_predict():
    images = X[:, None, :, None].repeat(6, axis=3)
    larger = np.concatenate([images, images], axis=3)
    with pytest.raises(ValueError, match=r"'dropout' got an input of shape .*Dropout2d"):
        fit(Pooled, images).predict(larger)
    assert fit(Pooled, images, module__layer=nn.Dropout2d).predict(larger).shape == (40,)


def test_a_subclass_with_its_own_forward_is_not_drawn():
    class Mine(nn.Dropout):
        def forward(self, x):
            return torch.nn.functional.dropout(x, self.p, self.training) * 2

    class Net(networks.ResidualNet):
        def __init__(self, n_features, n_outputs):
            super().__init__(n_features, n_outputs)
            self.dropout = Mine(0.5)

    with pytest.raises(ValueError, match=r"no nn.Dropout with p > 0.*dropout \(Mine\)"):
        fit(Net)
