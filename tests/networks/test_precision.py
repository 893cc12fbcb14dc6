"""What becomes of the tensors of a module that are no ordinary weights."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import skuq
from skuq import TorchClassifier
from skuq._networks._precision import moved, not_finite
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate


class Spectral(nn.Module):
    """A complex filter, learnt, before a layer."""

    def __init__(self, n_features, n_outputs, p=0.2):
        super().__init__()
        self.filter = nn.Parameter(torch.randn(n_features // 2 + 1, dtype=torch.cfloat))
        self.dropout = nn.Dropout(p)
        self.linear = nn.Linear(n_features, n_outputs)

    def forward(self, x):
        x = torch.fft.irfft(torch.fft.rfft(x) * self.filter, n=x.shape[1])
        return self.linear(self.dropout(x))


class Rotary(nn.Linear):
    """A complex buffer that is in no state dict."""

    def __init__(self, n_features, n_outputs):
        super().__init__(n_features, n_outputs)
        angle = torch.arange(n_features // 2) * 0.7
        self.register_buffer("turn", torch.polar(torch.ones(()), angle), persistent=False)

    def forward(self, x):
        turned = torch.view_as_complex(x.unflatten(1, (-1, 2)).contiguous()) * self.turn
        return super().forward(torch.view_as_real(turned).flatten(1))


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 8)).astype(np.float32)
    return X, (X[:, 0] > 0).astype(int)


def fitted(module, data, posterior=None, **options):
    options = {"max_epochs": 1, "random_state": 0, **options}
    return TorchClassifier(module, posterior=posterior or PointEstimate(), **options).fit(*data)


@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("kind", [Spectral, Rotary])
def test_complex_numbers_stay_complex(kind, precision, data):
    torch.manual_seed(0)
    network = kind(8, 2).eval()
    with torch.no_grad():
        expected = network(torch.as_tensor(data[0])).softmax(1).numpy()
    taken = fitted(lambda: network, data, max_epochs=0, precision=precision)
    atol = 2e-2 if precision == "bfloat16" else 1e-6
    np.testing.assert_allclose(taken.predict_proba(data[0]), expected, rtol=0, atol=atol)
    wide = torch.complex128 if precision == "float64" else torch.complex64
    tensors = [*taken.module_.parameters(), *taken.module_.buffers()]
    assert [t.dtype for t in tensors if t.is_complex()] == [wide]


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("posterior", [MCDropout(3), DeepEnsemble(2)], ids=str)
def test_complex_numbers_are_trained_saved_and_loaded(posterior, precision, data, tmp_path):
    options = {"precision": precision, "max_epochs": 2, "checkpoint_dir": str(tmp_path / "c")}
    one = fitted(Spectral, data, posterior, **options)
    before = fitted(Spectral, data, posterior, precision=precision, max_epochs=0)
    assert ((one.module_.filter - before.module_.filter).detach().imag != 0).any()
    skuq.save(one, tmp_path / "m.skuq")
    again = skuq.load(tmp_path / "m.skuq", module=Spectral)
    assert again.module_.filter.dtype == one.module_.filter.dtype
    assert np.array_equal(again.predict_draws(data[0]), one.predict_draws(data[0]))


class Odd(nn.Linear):
    """Constants of many kinds, each of which its outputs depend on."""

    def __init__(self, n_features, n_outputs):
        super().__init__(n_features, n_outputs)
        self.register_buffer("index", torch.arange(n_features).flip(0))
        self.register_buffer("kept", torch.arange(n_features) > 2)
        self.register_buffer("mask", torch.tensor([0.0] + [-torch.inf] * (n_features - 1)))
        self.register_buffer("stored", torch.ones(n_features).to(torch.float8_e4m3fn))
        self.register_buffer("sparse", torch.eye(n_features).to_sparse())
        self.plain = torch.eye(n_features)
        with torch.enable_grad():
            self.left_behind = self.weight * 2  # as a forward does that keeps what it computes

    def forward(self, x):
        x = x[:, self.index] * self.kept * self.stored.to(x.dtype) + self.mask.exp()
        return super().forward((self.sparse @ (x @ self.plain).mT).mT)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("posterior", [PointEstimate(), DeepEnsemble(2)], ids=str)
def test_constants_of_every_kind_stay_what_they_are(posterior, precision, data):
    model = fitted(Odd, data, posterior, precision=precision)
    module = model.module_
    dtypes = [getattr(module, name).dtype for name in ("index", "kept", "stored", "plain")]
    wide = getattr(torch, precision)
    assert dtypes == [torch.int64, torch.bool, torch.float8_e4m3fn, wide]
    with torch.no_grad():
        expected = module(torch.as_tensor(data[0]).to(wide)).double().softmax(1).numpy()
    first = model.predict_draws(data[0])[0]
    np.testing.assert_allclose(first, expected, rtol=0, atol=1e-6)
    assert fitted(Odd, data, max_epochs=0).predict(data[0]).shape == (40,)


def test_what_several_layers_hold_stays_one():
    first, second = nn.Identity(), nn.Identity()
    first.shared = second.shared = torch.ones(3)
    module = moved(nn.Sequential(first, second), torch.device("cpu"), torch.float64)
    assert module[0].shared is module[1].shared
    assert module[0].shared.dtype == torch.float64
    narrower = moved(copy.deepcopy(module), torch.device("cpu"), torch.float32)
    assert narrower[0].shared.dtype == torch.float64  # nn.Module.to leaves it alone, too


class SinceThen(nn.Linear):
    """A difference of two large numbers."""

    def __init__(self, n_features, n_outputs):
        super().__init__(n_features, n_outputs)
        self.double()
        self.register_buffer("begin", torch.tensor(1.7e9, dtype=torch.float64))
        self.register_buffer("end", torch.tensor(1.7e9 + 3, dtype=torch.float64))

    def forward(self, x):
        return super().forward(x * (self.end - self.begin))


def test_a_precision_that_changes_outputs_is_refused(data):
    with pytest.raises(ValueError, match=r"become torch.float32: .* Set precision='float64'"):
        fitted(SinceThen, data, max_epochs=0)
    assert fitted(SinceThen, data, max_epochs=0, precision="float64").predict(data[0]).any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_taken_over(dtype, data):
    torch.manual_seed(0)
    network = nn.Linear(8, 2, dtype=dtype)
    taken = fitted(lambda: network, data, max_epochs=0)
    assert torch.equal(taken.module_.weight, network.weight.float())


def test_infinity_is_an_error_but_for_constants():
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Identity())
    module[2].register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    assert not_finite(module) is None
    module[1].running_var[0] = torch.inf
    assert not_finite(module) == "1.running_var"
    module[2].mask[0] = torch.nan
    module[1].running_var[0] = 1
    assert not_finite(module) == "2.mask"
    module[0].bias.data[1] = -torch.inf
    assert not_finite(module) == "0.bias"
