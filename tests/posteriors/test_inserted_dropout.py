"""MC dropout inserted into networks that have none: where it goes, what it does."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn

import skuq
from skuq import TorchClassifier, TorchRegressor
from skuq._networks._dropout import apply_mask, driven
from skuq._networks._inserted import DroppedInput
from skuq.likelihoods import Gaussian
from skuq.posteriors import MCDropout, PointEstimate
from tests import networks

X = np.random.default_rng(0).normal(size=(40, 10))
Y = (X[:, 0] > 0).astype(int)


class Deep(nn.Module):
    """Three linear layers, in order."""

    def __init__(self, n_features, n_outputs, p=0.0):
        super().__init__()
        self.first = nn.Linear(n_features, 8)
        self.blocks = nn.Sequential(nn.Tanh(), nn.Dropout(p), nn.Linear(8, 6), nn.Tanh())
        self.head = nn.Linear(6, n_outputs)

    def forward(self, x):
        return self.head(self.blocks(self.first(x)))


class Backwards(nn.Module):
    """Registered from the last layer to the first."""

    def __init__(self, n_features, n_outputs):
        super().__init__()
        self.head = nn.Linear(8, n_outputs)
        self.first = nn.Linear(n_features, 8)

    def forward(self, x):
        return self.head(torch.tanh(self.first(x)))


def fit(module, posterior, X=X, y=Y, **options):
    options = {"max_epochs": 2, "random_state": 0, **options}
    return TorchClassifier(module, posterior=posterior, **options).fit(X, y)


@pytest.mark.parametrize("max_epochs", [0, pytest.param(3, marks=pytest.mark.slow)])
def test_variance_of_dropout_before_a_linear_head(max_epochs):
    """Var = p / (1 − p) Σ w² h², with h what enters the head, trained with it or put in later."""
    n_draws, p, y = 20_000, 0.3, X @ np.arange(10.0)
    regressor = TorchRegressor(
        Deep, posterior=MCDropout(n_draws, p=p, where="last"),
        likelihood=Gaussian(heteroscedastic=False), precision="float64", max_epochs=max_epochs,
        random_state=0,
    ).fit(X, y)  # fmt: skip
    network, head = regressor.module_, regressor.module_.head.layer
    with torch.no_grad():
        h = network.blocks(network.first(torch.as_tensor(X[:5]))).numpy()
    w, b = head.weight.detach().numpy()[0], float(head.bias.detach()[0])
    scale, location = regressor.likelihood_.scale_[0], regressor.likelihood_.location_[0]
    expected = p / (1 - p) * (h**2 @ w**2) * scale**2
    actual = regressor.predict_uncertainty(X[:5], kind="epistemic")
    np.testing.assert_allclose(actual, expected, rtol=5 * np.sqrt(2 / n_draws))
    error = 5 * np.sqrt(expected / n_draws)
    assert (np.abs(regressor.predict(X[:5]) - ((h @ w + b) * scale + location)) < error).all()


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ("last", ["head"]),
        ("linear", ["blocks.2", "head"]),
        (["first"], ["first"]),
        (("blocks", "head"), ["blocks", "head"]),
    ],
)
def test_where_it_is_put(where, names):
    fitted = fit(Deep, MCDropout(5, p=0.2, where=where))
    inserted = {n for n, m in fitted.module_.named_modules() if isinstance(m, DroppedInput)}
    assert inserted == set(names)
    assert all(fitted.module_.get_submodule(n).inserted_dropout.p == 0.2 for n in names)
    masks = {mask.layer for mask in fitted._engine.draws._masks}
    assert masks == {f"{name}.inserted_dropout" for name in names}
    assert (fitted.predict_uncertainty(X, "epistemic") > 0).all()


def test_draws_are_those_of_the_masks():
    fitted = fit(Deep, MCDropout(6, p=0.4, where="linear"), precision="float64")
    actual = fitted.draws(torch.as_tensor(X)).numpy()
    masks = list(fitted._engine.draws.masks(0, 6))
    for m in range(6):
        calls = iter([mask[m] for _, mask in masks])
        with driven(fitted.module_, lambda layer, x, calls=calls: (
            x if layer.p == 0 else apply_mask(layer, x, next(calls)))):  # fmt: skip
            expected = fitted.module_(torch.as_tensor(X)).detach()
        np.testing.assert_allclose(actual[m], expected, rtol=0, atol=1e-12)


def test_the_trained_network_is_as_before():
    """Put in later, dropout changes no weight and no output of the network itself."""
    plain = fit(Deep, PointEstimate(), max_epochs=0)
    fitted = fit(Deep, MCDropout(5, p=0.3, where="last"), max_epochs=0)
    x = torch.as_tensor(X, dtype=torch.float32)
    torch.testing.assert_close(fitted.module_(x), plain.module_(x), rtol=0, atol=0)
    assert fitted.module_.head.weight is fitted.module_.head.layer.weight


def test_features_are_those_behind_which_dropout_was_put():
    fitted = fit(Deep, MCDropout(5, p=0.3, where="last"))
    with torch.no_grad():
        x = torch.as_tensor(X, dtype=torch.float32)
        expected = fitted.module_.blocks(fitted.module_.first(x))
    np.testing.assert_allclose(skuq.predict_features(fitted, X), expected, atol=1e-6)


def test_training_feels_it():
    trained = [fit(Deep, MCDropout(5, p=p, where="last")) for p in (0.1, 0.6)]
    first, second = (model.module_.first.weight for model in trained)
    assert not torch.equal(first, second)


def test_more_draws_change_none():
    few, many = (fit(Deep, MCDropout(n, p=0.2, where="last")) for n in (3, 9))
    np.testing.assert_allclose(few.predict_draws(X), many.predict_draws(X)[:3], atol=1e-6)


def test_convolutions_by_name():
    images = X[:, :1, None, None].repeat(8, 2).repeat(8, 3)
    fitted = fit(
        networks.ConvNet, MCDropout(5, p=0.2, where=["trunk.1", "head.3"]), images, module__p=0.0
    )
    shapes = {mask.layer: mask.shape for mask in fitted._engine.draws._masks}
    assert shapes == {
        "trunk.1.inserted_dropout": (4, 8, 8),
        "head.3.inserted_dropout": (16,),
    }


def test_a_layer_that_is_shared_and_a_module_that_is_one_layer():
    class Shared(nn.Module):
        def __init__(self, n_features, n_outputs):
            super().__init__()
            self.inner = nn.Linear(n_features, n_features)
            self.again, self.head = self.inner, nn.Linear(n_features, n_outputs)

        def forward(self, x):
            return self.head(torch.tanh(self.again(torch.tanh(self.inner(x)))))

    with pytest.raises(ValueError, match="'again' is the layer 'inner'; give that name"):
        fit(Shared, MCDropout(5, p=0.2, where=["again"]))
    fitted = fit(Shared, MCDropout(5, p=0.2, where=["inner"]))
    assert fitted.module_.inner is fitted.module_.again
    assert [mask.call for mask in fitted._engine.draws._masks] == [0, 1]
    assert fit(nn.Linear, MCDropout(5, p=0.2, where="last"), module__in_features=10,
               module__out_features=2).module_.layer.weight.shape == (2, 10)  # fmt: skip


def test_save_pickle_and_going_on(tmp_path):
    fitted = fit(Deep, MCDropout(5, p=0.2, where="linear"), warm_start=True)
    skuq.save(fitted, tmp_path / "m.skuq")
    loaded = skuq.load(tmp_path / "m.skuq", module=Deep)
    again = pickle.loads(pickle.dumps(fitted))
    for model in (loaded, again):
        assert not any(layer.training for layer in model.module_.modules())
        assert np.array_equal(model.predict_draws(X), fitted.predict_draws(X))
        assert repr(model.posterior) == "MCDropout(n_draws=5, p=0.2, where='linear')"
    before = fitted.module_.first.weight.clone()
    for model in (fitted, loaded):
        model.set_params(lr=1e-9).fit(X, Y)
        torch.testing.assert_close(model.module_.first.weight, before, rtol=0, atol=1e-6)
        model.partial_fit(X, Y)
    assert np.array_equal(loaded.predict_draws(X), fitted.predict_draws(X))


def test_files_of_forged_places_are_refused(tmp_path):
    fitted = fit(Deep, MCDropout(5, p=0.2, where="last"))
    for where in ("first", ["nowhere"], None):
        fitted.posterior_.where = where
        with pytest.raises(skuq.PersistenceError, match="nothing was saved"):
            skuq.save(fitted, tmp_path / "m.skuq")


def test_a_warm_start_keeps_the_dropout_that_is_there():
    fitted = fit(Deep, MCDropout(5, p=0.2, where="last"), warm_start=True)
    for changes in ({"posterior__p": 0.3}, {"posterior": MCDropout(5, p=0.2, where="linear")},
                    {"posterior": MCDropout(5)}):  # fmt: skip
        with pytest.raises(ValueError, match=r"training goes on with .*\{'head': 0.2\}"):
            fitted.set_params(**changes).fit(X, Y)
        fitted.set_params(posterior=MCDropout(5, p=0.2, where="last"))
    fitted.fit(X, Y)


def test_checkpoints(tmp_path):
    posterior = MCDropout(5, p=0.2, where="last")
    plain = fit(Deep, posterior)
    resumed = fit(Deep, posterior, checkpoint_dir=tmp_path)
    assert np.array_equal(plain.predict_draws(X), resumed.predict_draws(X))


def test_onnx(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    fitted = fit(Deep, MCDropout(5, p=0.2, where="linear"))
    skuq.export_onnx(fitted, tmp_path / "m.onnx")
    session = runtime.InferenceSession(tmp_path / "m.onnx")
    rows = {session.get_inputs()[0].name: X.astype(np.float32)}
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(None, rows)))
    proba = next(v for v in found.values() if v.shape == (40, 2))
    np.testing.assert_allclose(proba, fitted.predict_proba(X), atol=1e-5)


def test_what_is_refused():
    def refused(match, module, posterior, **options):
        with pytest.raises(ValueError, match=match):
            fit(module, posterior, **options)

    last = MCDropout(5, p=0.2, where="last")
    has = r"has dropout already \('blocks.1' with p = 0.5\).*leave out p and where"
    refused(has, Deep, last, module__p=0.5)
    refused("MLP has dropout already", None, last)
    fit(None, last, module__dropout=0.0)
    refused("p and where go together, got p=0.2 and where=None", Deep, MCDropout(p=0.2))
    refused("p and where go together, got p=None and where='last'", Deep, MCDropout(where="last"))
    for p in (0, 1, -0.1, "x"):
        refused("The 'p' parameter", Deep, MCDropout(p=p, where="last"))
    refused("The 'where' parameter", Deep, MCDropout(p=0.2, where="first"))
    for where in ([], [1]):
        refused("where must hold names of layers", Deep, MCDropout(p=0.2, where=where))
    unknown = (
        r"names 'haed', which is no layer of Deep. Did you mean 'head'\? It has 'first' \(Linear\),"
        r" 'blocks.2' \(Linear\), 'head' \(Linear\)"
    )
    refused(unknown, Deep, MCDropout(p=0.2, where=["haed"]))
    residual = {"module__p": 0.0}
    container = "names 'blocks', which is a container that is never called of ResidualNet"
    refused(container, networks.ResidualNet, MCDropout(p=0.2, where=["blocks"]), **residual)


def test_where_there_is_no_linear_layer():
    class Convolution(nn.Module):
        def __init__(self, n_outputs):
            super().__init__()
            self.conv = nn.Conv1d(1, n_outputs, 10)

        def forward(self, x):
            return self.conv(x[:, None]).flatten(1)

    with pytest.raises(ValueError, match=r"no nn.Linear in Convolution.*It has 'conv' \(Conv1d\)"):
        fit(Convolution, MCDropout(p=0.2, where="last"))
    with pytest.raises(ValueError, match=r"and Convolution has none"):
        fit(Convolution, MCDropout(p=0.2, where="linear"))

    class Single(nn.Module):
        def __init__(self, n_features, n_outputs):
            super().__init__()
            self.head = nn.Linear(n_features, n_outputs)

        def forward(self, x):
            return self.head(x)

    with pytest.raises(ValueError, match=r"Single has only one, 'head': use where='last'"):
        fit(Single, MCDropout(p=0.2, where="linear"))


def test_the_order_is_that_of_the_forward():
    expected = r"before \['first'\], but .* in the order \['first', 'head'\].*where=\['head'\]"
    for where in ("last", "linear"):
        with pytest.raises(ValueError, match=expected):
            fit(Backwards, MCDropout(p=0.2, where=where))
    fitted = fit(Backwards, MCDropout(p=0.2, where=["head"]))
    assert isinstance(fitted.module_.head, DroppedInput)


def test_inputs_that_cannot_be_dropped():
    class Ids(nn.Module):
        def __init__(self, n_outputs):
            super().__init__()
            self.table, self.head = nn.Embedding(5, 4), nn.Linear(4, n_outputs)

        def forward(self, x):
            return self.head(self.table(x.long()).mean(1))

    ids = np.random.default_rng(0).integers(0, 5, size=(40, 3)).astype(float)
    with pytest.raises(ValueError, match=r"the Embedding layer that where= names is torch\.int64"):
        fit(Ids, MCDropout(p=0.2, where=["table"]), ids)
    fit(Ids, MCDropout(p=0.2, where=["head"]), ids)


class Asking(nn.Module):
    """Looks at its layers: at the weight of one, and, if asked to, at their classes."""

    def __init__(self, n_features, n_outputs, classes=False):
        super().__init__()
        self.classes = classes
        self.layers = nn.ModuleList([nn.Linear(n_features, 8), nn.Linear(8, n_outputs)])

    def forward(self, x):
        assert self.layers[1].in_features == 8
        h = torch.tanh(self.layers[0](x)).to(self.layers[1].weight.dtype)
        out = self.layers[1](h)
        return out if isinstance(self.layers[1], nn.Linear) or not self.classes else 2 * out


def test_a_forward_that_looks_at_its_layers():
    """It finds what it asks of them; one that asks for their class is another function then."""
    plain = fit(Asking, PointEstimate(), max_epochs=0)
    fitted = fit(Asking, MCDropout(5, p=0.2, where="last"), max_epochs=0)
    x = torch.as_tensor(X, dtype=torch.float32)
    torch.testing.assert_close(fitted.module_(x), plain.module_(x), rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"gives other outputs once dropout is before 'layers.1'"):
        fit(Asking, MCDropout(5, p=0.2, where="last"), module__classes=True)


def test_attention_keeps_its_own_projection():
    """Attention only reads the weight of its out_proj, so nothing is put before that."""
    sequences = X[:, :8, None].repeat(8, axis=2)
    fitted = fit(
        networks.Transformer, MCDropout(5, p=0.2, where="linear"), sequences, module__p=0.0
    )
    names = {mask.layer.removesuffix(".inserted_dropout") for mask in fitted._engine.draws._masks}
    assert names and not any("attn" in name for name in names)
    assert (fitted.predict_uncertainty(sequences, "epistemic") > 0).all()


class Blocks(nn.Module):
    """Dropout by a function, unless `p` is 0, and layers inside of a block."""

    def __init__(self, n_features, n_outputs, p=0.0, idle=False):
        super().__init__()
        self.block = nn.Sequential(nn.Linear(n_features, 4), nn.Tanh())
        self.head = nn.Linear(4, n_outputs)
        self.p = p
        if idle:
            self.drop = nn.Dropout(0.0)

    def forward(self, x):
        return self.head(nn.functional.dropout(self.block(x), self.p, self.training))


@pytest.mark.parametrize("where", [["block", "block.0"], ["block.0", "block"]])
def test_a_layer_inside_of_another(where, blobs):
    make = TorchClassifier(Blocks, posterior=MCDropout(5, 0.1, where), max_epochs=1)
    with pytest.raises(ValueError, match=r"the layer 'block\.0' lies in 'block'"):
        make.fit(*blobs)


def test_dropout_by_a_function_beside_idle_layers(blobs):
    make = TorchClassifier(Blocks, module__p=0.3, module__idle=True, posterior=MCDropout(5))
    with pytest.warns(UserWarning) as caught:
        make.set_params(max_epochs=1).fit(*blobs)
    first, second = (str(one.message) for one in caught)
    assert "only the default module has a parameter for it, module__dropout=0.1" in first
    assert "samples nothing else" in second
    assert all("MCDropout(p=0.1, where='last')" in text for text in (first, second))


def test_names_of_a_compiled_module():
    module = torch.compile(nn.Sequential(nn.Linear(3, 2)), backend="eager")
    with pytest.raises(ValueError, match=r"pass the module inside, its attribute _orig_mod"):
        MCDropout(5, 0.1, ["0"]).transform(module)


def test_messages_name_the_user_s_module(blobs):
    class Broken(nn.Linear):
        def __init__(self, n_features, n_outputs):
            super().__init__(n_features, n_outputs)
            nn.init.constant_(self.weight, np.nan)

    make = TorchClassifier(Broken, posterior=MCDropout(5, 0.1, "last"), max_epochs=1)
    with pytest.raises(ValueError, match=r"^Broken returns NaN for finite rows"):
        make.fit(*blobs)
