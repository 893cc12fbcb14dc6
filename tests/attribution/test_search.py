"""Masks: those that must be found, by each search."""

import itertools

import numpy as np
import pytest
import torch

from skuq.attribution import attribute_uncertainty
from skuq.attribution._perturbations import blur, fill_in
from tests.attribution.helpers import SQUARES, additive, nothing, weighted

OPTIMIZERS = ("greedy", "gumbel", "exhaustive")


def optimized(function, X, optimizer="greedy", **options):
    settings = {"segments": SQUARES, "perturbation": nothing, "sparsity": 1.0, **options}
    return attribute_uncertainty(function, X, optimizer=optimizer, **settings)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_additive_uncertainty_has_a_known_best_mask(optimizer):
    """A segment is worth replacing if it adds more than λ times its area times U."""
    parts = np.array([0.5, 0.1, 1.0, -0.3, 0.4, 0.2, 0.6, 1.5])
    U, X = additive(parts)
    found = optimized(U, X, optimizer)
    wanted = parts > parts.sum() / 8
    assert (found.mask[0] == wanted[SQUARES]).all()
    assert found.uncertainty[0] == pytest.approx(parts.sum())
    assert found.refined_uncertainty[0] == pytest.approx(parts[~wanted].sum())
    assert (found.refined[0] == np.where(found.mask[0], 0, 1)).all()
    np.testing.assert_allclose(found.values[0], parts[SQUARES] / 4, atol=1e-6)
    assert found.mask.dtype == bool


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_high_price_empties_the_mask(optimizer):
    U, X = additive([1.0, 2.0, 3.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    found = optimized(U, X, optimizer, sparsity=1e6)
    assert not found.mask.any() and (found.refined == X).all()
    assert found.refined_uncertainty[0] == found.uncertainty[0]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_without_a_price_all_that_helps_is_replaced(optimizer):
    """A blur lowers the sum of squares of a checkerboard wherever it is."""
    board = (np.indices((4, 8)).sum(0) % 2)[None] * 1.0
    sharpness = lambda x: ((x - 0.5) ** 2).flatten(1).sum(1)
    found = optimized(sharpness, board, optimizer, sparsity=0.0, perturbation="blur")
    assert found.mask.all() and found.refined_uncertainty[0] < found.uncertainty[0]


def interactions(seed):
    """A random function of which squares are white, with products of pairs; never negative."""
    random = np.random.default_rng(seed)
    pairs = np.triu(random.normal(size=(8, 8)) * (random.random((8, 8)) < 0.3), 1) / 2
    own, matrix = torch.tensor(random.exponential(size=8)), torch.tensor(pairs)
    one_each = torch.tensor(np.eye(8)[SQUARES.ravel()].T / 4)

    def uncertainty(x):
        on = x.double().flatten(1) @ one_each.T
        return torch.nn.functional.softplus(2 + on @ own + ((on @ matrix) * on).sum(1))

    return uncertainty


@pytest.mark.parametrize("optimizer", ["greedy", "gumbel"])
def test_the_exhaustive_optimum_is_found_mostly(optimizer):
    """On a function with interactions, from 40 places."""
    X = np.random.default_rng(0).uniform(0.2, 2, size=(40, 8))[:, SQUARES]
    best, found = (optimized(interactions(1), X, each) for each in ("exhaustive", optimizer))
    objectives = [
        one.refined_uncertainty / one.uncertainty + one.mask.mean((1, 2)) for one in (best, found)
    ]
    assert (objectives[0] <= objectives[1] + 1e-9).all() and (objectives[1] <= 1).all()
    assert (best.mask == found.mask).all((1, 2)).mean() >= 0.9
    assert len(np.unique(best.mask[:, ::2, ::2].reshape(40, 8), axis=0)) > 5


def test_exhaustive_beats_every_mask():
    function, X = interactions(3), np.ones((1, 4, 8))
    found = optimized(function, X, "exhaustive", sparsity=0.5)
    least = found.refined_uncertainty[0] / found.uncertainty[0] + 0.5 * found.mask.mean()
    for bits in itertools.product([False, True], repeat=8):
        mask = np.array(bits)[SQUARES]
        u = float(function(torch.as_tensor(X * ~mask))[0])
        assert least <= u / found.uncertainty[0] + 0.5 * mask.mean() + 1e-9


def test_values_put_the_mask_first():
    """No single change helps at the end, so inside, each pixel is worth more than λ U / n."""
    for seed in range(5):
        found = optimized(interactions(seed), np.ones((1, 4, 8)))
        price = found.uncertainty[0] / 32
        assert (found.values[found.mask] > price).all()
        assert (found.values[~found.mask] <= price + 1e-9).all()


def test_exhaustive_has_a_limit():
    with pytest.raises(ValueError, match=r"at most 12; got 32\. Give fewer segments"):
        optimized(weighted(np.ones((4, 8))), np.ones((1, 4, 8)), "exhaustive", segments="pixels")


def test_rows_do_not_depend_on_their_neighbours():
    U = weighted(np.linspace(0, 1, 32).reshape(4, 8))
    X = np.random.default_rng(0).random((6, 4, 8))
    together = attribute_uncertainty(U, X, segments=SQUARES)
    one = attribute_uncertainty(U, X[2:3], segments=SQUARES)
    some = attribute_uncertainty(U, X, segments=SQUARES, batch_size=4)
    np.testing.assert_allclose(together.values[2:3], one.values, atol=1e-12)
    np.testing.assert_allclose(together.values, some.values, atol=1e-12)
    for method in ("kernel_shap", "lime"):
        options = {"method": method, "segments": SQUARES}
        together, again = (attribute_uncertainty(U, X, **options).values for _ in range(2))
        assert (together == again).all()


def test_gumbel_is_repeatable_and_leaves_generators():
    U, X = interactions(1), np.ones((1, 4, 8))
    before = torch.get_rng_state()
    one, two = (optimized(U, X, "gumbel", random_state=3) for _ in range(2))
    assert (one.values == two.values).all() and torch.equal(before, torch.get_rng_state())


def test_segments_of_different_numbers():
    """Rows with fewer segments have nothing to flip beyond them."""
    labels = np.stack([SQUARES, np.zeros_like(SQUARES), SQUARES // 4])
    U = weighted(np.where(SQUARES == 5, 1.0, 0.1))
    for optimizer in OPTIMIZERS:
        found = optimized(U, np.ones((3, 4, 8)), optimizer, segments=labels, sparsity=0.9)
        assert [mask.mean() for mask in found.mask] == [1 / 8, 1.0, 0.5]


def test_fill_in_sees_nothing_of_the_mask():
    x, mask = torch.rand(1, 2, 9, 9, dtype=torch.float64), torch.zeros(1, 1, 9, 9)
    mask[..., 3:6, 4:8] = 1
    other = torch.where(mask == 1, 100.0, x)
    assert torch.equal(fill_in(x * (1 - mask), mask, 1.5), fill_in(other * (1 - mask), mask, 1.5))
    torch.testing.assert_close(fill_in(x, mask, 1.5), fill_in(other, mask, 1.5))
    flat = torch.full((1, 1, 9, 9), 0.3)
    torch.testing.assert_close(fill_in(flat, mask, 1.5), flat)
    everything = torch.ones(1, 1, 9, 9)
    mean = x.mean((2, 3), keepdim=True).expand_as(x)
    torch.testing.assert_close(fill_in(x, everything.double(), 1.5), mean)


def test_blur_is_a_gaussian():
    point = torch.zeros(1, 1, 41, 41, dtype=torch.float64)
    point[..., 20, 20] = 1
    found = blur(point, 2.0)[0, 0]
    at = torch.arange(41, dtype=torch.float64) - 20
    assert found.sum() == pytest.approx(1, abs=1e-6)
    assert (found * at[:, None] ** 2).sum() == pytest.approx(4.0, rel=1e-3)
    assert blur(torch.ones(1, 1, 5, 7), 2.0).min() == pytest.approx(1)
