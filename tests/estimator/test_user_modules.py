"""Modules of the user: copied, of any shape that works, refused where one would mislead."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn

from skuq.posteriors import DeepEnsemble, PointEstimate
from tests import networks
from tests.estimator.helpers import classifier


def test_errors_of_a_module_say_what_it_was_called_on(blobs, digits):
    X, y = digits
    with pytest.raises(RuntimeError) as caught:
        classifier(module=networks.ConvNet).fit(X.reshape(-1, 8, 8), y)
    assert (
        "calling ConvNet on rows of X, which has shape (n_samples, 8, 8)"
        in caught.value.__notes__[0]
    )
    with pytest.raises(TypeError) as caught:
        classifier(module=lambda num_classes: None).fit(X, y)
    assert "give its other arguments as module__*" in caught.value.__notes__[0]


def test_sequences_of_another_length():
    X = np.random.default_rng(0).normal(size=(40, 6, 8))
    fitted = classifier(module=networks.Recurrent).fit(X, (X[:, 0, 0] > 0).astype(int))
    assert fitted.predict(X[:, :4]).shape == (40,)
    with pytest.raises(RuntimeError) as caught:
        fitted.predict(X[:, :, :5])
    assert "calling Recurrent" in caught.value.__notes__[0]
    with pytest.raises(ValueError, match="NaN"):
        fitted.predict(X * np.nan)
    fitted.partial_fit(X[:, :3], (X[:, 0, 0] > 0).astype(int))
    with pytest.raises(ValueError, match="fitted on rows of shape"):
        fitted.partial_fit(X[:, 0], (X[:, 0, 0] > 0).astype(int))


def test_an_instance_is_refused(blobs):
    with pytest.raises(TypeError, match="got an instance of Linear: pass module=Linear"):
        classifier(module=nn.Linear(10, 3)).fit(*blobs)


def test_random_in_eval_mode_is_refused(blobs):
    class Noisy(networks.Plain):
        def forward(self, x):
            return super().forward(x + torch.randn_like(x))

    with pytest.raises(ValueError, match="draws random numbers"):
        classifier(module=Noisy).fit(*blobs)


def test_rows_that_depend_on_each_other_are_refused(blobs):
    class Centred(networks.Plain):
        def forward(self, x):
            return super().forward(x - x.mean(0))

    with pytest.raises(ValueError, match="change with the other rows"):
        classifier(module=Centred).fit(*blobs)


def test_modules_and_tensors_of_the_user_are_copied(blobs):
    X, y = blobs
    body = nn.Linear(10, 8)
    before = body.weight.detach().clone()
    make = lambda: classifier(DeepEnsemble(2), networks.Head, module__body=body).fit(X, y)
    one, two = make().predict_proba(X), make().predict_proba(X)
    assert torch.equal(body.weight, before) and body.training
    assert np.array_equal(one, two)
    members = make()._engine.draws.tensors(0, 2)["body.weight"]
    assert not torch.equal(members[0], members[1]) and not torch.equal(members[0], before)


def test_a_closure_over_self_is_refused(blobs):
    class Closure(networks.Plain):
        def __init__(self, n_features, n_outputs):
            super().__init__(n_features, n_outputs)
            self.call = lambda x: self.layers(x)

        def forward(self, x):
            return self.call(x)

    with pytest.raises(ValueError, match="a lambda, closure or hook that refers to `self`"):
        classifier(module=Closure).fit(*blobs)


def test_members_that_differ_in_more_than_tensors_are_refused(blobs):
    class Fourier(networks.Plain):
        def __init__(self, n_features, n_outputs, buffer):
            super().__init__(2 * n_features, n_outputs)
            frequencies = torch.randn(n_features, 2 * n_features)
            if buffer:
                self.register_buffer("frequencies", frequencies, persistent=False)
            else:
                self.frequencies = frequencies

        def forward(self, x):
            return super().forward(torch.sin(x @ self.frequencies))

    X, y = blobs
    with pytest.raises(ValueError, match="registered with register_buffer"):
        classifier(DeepEnsemble(2), Fourier, module__buffer=False).fit(X, y)
    classifier(DeepEnsemble(2), Fourier, module__buffer=True).fit(X, y)
    classifier(PointEstimate(), Fourier, module__buffer=False).fit(X, y)


def test_what_a_forward_leaves_behind(blobs):
    class Leaves(networks.Plain):
        def forward(self, x):
            self.auxiliary = self.layers[0](x).square().mean()
            return super().forward(x)

    classifier(DeepEnsemble(2), Leaves).fit(*blobs)


def test_a_lazy_module_and_a_tuple(blobs):
    class Lazy(nn.Module):
        def __init__(self, n_outputs):
            super().__init__()
            self.layers = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(n_outputs))

        def forward(self, x):
            return self.layers(x), x

    X, y = blobs
    one, two = (classifier(DeepEnsemble(2), Lazy).fit(X, y).predict_proba(X) for _ in range(2))
    assert np.array_equal(one, two)


@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm])
@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
def test_normalised_weights(norm, blobs):
    X, y = blobs
    fitted = classifier(DeepEnsemble(2), networks.Normed, module__norm=norm).fit(X, y)
    assert fitted.predict_uncertainty(X, "epistemic").max() > 1e-3
    if norm is nn.utils.weight_norm:  # torch does not pickle parametrised modules
        again = pickle.loads(pickle.dumps(fitted))
        assert np.array_equal(again.predict_proba(X), fitted.predict_proba(X))
