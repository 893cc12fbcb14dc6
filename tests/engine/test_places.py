"""Networks that answer for each place of a row: to reductions, a place is a row."""

import numpy as np
import pytest
import torch
from torch import nn

from skuq._data._places import flat_places, places_as_rows, rows_with_places
from skuq._distributions._softmax import Softmax, log_mean
from skuq._engine import _engine
from skuq._engine._draws import Draws
from skuq._engine._engine import Engine
from skuq._networks._module import Numerics
from skuq.uncertainty import entropy_decomposition

FLOAT64 = Numerics(torch.device("cpu"), "float64")
N_DRAWS, N_CLASSES, PLACES = 5, 3, (6, 4)


def dense_engine(seed=0, n_draws=N_DRAWS):
    generator = torch.Generator().manual_seed(seed)
    module = nn.Sequential(nn.Conv2d(2, 7, 3, padding=1), nn.ReLU(), nn.Conv2d(7, N_CLASSES, 1))
    module = module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator).double())
    weight = module[2].weight.detach()
    noise = torch.randn((n_draws, *weight.shape), generator=generator).double()
    sample = torch.randn((3, 2, *PLACES), generator=generator).double()
    return Engine(Draws(module, {"2.weight": weight + noise}), sample, FLOAT64)


def images(n_rows, places=PLACES):
    return np.random.default_rng(1).normal(size=(n_rows, 2, *places))


def probabilities(engine, X):
    """(n_draws, n_rows, n_classes, *places), by torch."""
    module, weights = engine.draws.module, engine.draws.tensors(0, engine.draws.n_draws)
    hidden = module[1](module[0](torch.as_tensor(X)))
    outputs = [
        nn.functional.conv2d(hidden, w, module[2].bias) for w in next(iter(weights.values()))
    ]
    return torch.stack(outputs).softmax(2).detach()


def test_places_become_rows_and_come_back():
    output = torch.arange(2 * 3 * 4 * 5 * 6).reshape(2, 3, 4, 5, 6)
    rows = places_as_rows(output)
    assert rows.shape == (2, 3 * 5 * 6, 4)
    back = rows_with_places(rows.movedim(0, 1), 3, (5, 6))
    assert torch.equal(back.movedim(3, 0), output.movedim(2, -1))
    assert rows.mT.is_contiguous()  # places lie last in memory
    target = np.arange(3 * 5 * 6 * 2).reshape(3, 5, 6, 2)
    flat = flat_places(target, (5, 6))
    assert flat.shape == (90, 2) and np.array_equal(rows_with_places(flat, 3, (5, 6)), target)
    plain = output[..., 0, 0]
    assert places_as_rows(plain) is plain
    assert flat_places(target, ()) is target and rows_with_places(target, 3, ()) is target


@pytest.mark.parametrize("places", [PLACES, (5, 9), (1, 1)])
@pytest.mark.parametrize("n_rows", [1, 2, 7])
def test_reductions_of_places_are_those_of_torch(n_rows, places):
    engine, X = dense_engine(), images(n_rows, places)
    expected = probabilities(engine, X)
    outputs = engine(torch.as_tensor(X))
    assert outputs.shape == (N_DRAWS, n_rows, N_CLASSES, *places)
    got = engine.map(X, lambda out: log_mean(Softmax(out)))
    assert got.shape == (n_rows, *places, N_CLASSES)
    np.testing.assert_allclose(np.moveaxis(got, -1, 1), expected.mean(0).log(), rtol=0, atol=1e-12)
    parts = engine.map(X, lambda out: tuple(entropy_decomposition(Softmax(out).probs)))
    for part, whole in zip(parts, entropy_decomposition(expected)):
        assert part.shape == (n_rows, *places)
        np.testing.assert_allclose(part, whole, rtol=0, atol=1e-12)


def test_aligned_arrays_have_places_too():
    engine, X = dense_engine(), images(5)
    labels = np.random.default_rng(2).integers(N_CLASSES, size=(5, *PLACES))
    pairs = np.stack([labels, labels + 1], -1)

    def of_label(out, y, both):
        assert both.shape == (len(y), 2) and torch.equal(both[:, 0], y)
        return log_mean(Softmax(out)).gather(1, y[:, None])[:, 0]

    got = engine.map(X, of_label, labels, pairs)
    mean = probabilities(engine, X).mean(0).numpy()
    expected = np.log(np.take_along_axis(mean, labels[:, None], 1))[:, 0]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("chunk", "reduced"), [(1, 5), (2, 16), (4, 1000), (3, 24)])
def test_blocks_may_begin_within_a_row(chunk, reduced):
    engine, X = dense_engine(), images(5)
    whole = engine.map(X, lambda out: (Softmax(out).probs.mean(0), out.std(0)))
    engine.n_rows, engine.n_reduced = chunk, reduced
    parts = engine.map(X, lambda out: (Softmax(out).probs.mean(0), out.std(0)))
    for part, one in zip(parts, whole):
        np.testing.assert_allclose(part, one, rtol=0, atol=1e-12)


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_blocks_of_draws_give_the_same(at_once):
    engine, X = dense_engine(), images(3)
    engine.n_draws_at_once = at_once
    got = engine.map(X, lambda out: Softmax(out).probs.mean(0))
    expected = probabilities(engine, X).mean(0)
    np.testing.assert_allclose(np.moveaxis(got, -1, 1), expected, rtol=0, atol=1e-12)


def test_memory_that_runs_out_halves_the_chunks(monkeypatch):
    engine, X = dense_engine(), images(9)
    expected = engine.map(X, lambda out: Softmax(out).probs.mean(0))
    engine.n_rows = 8
    function = engine._function()

    def little(x, band):
        if len(x) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return function(x)

    monkeypatch.setattr(engine, "_function", lambda *plan: little)
    with pytest.warns(UserWarning, match="went on with 2"):
        got = engine.map(X, lambda out: Softmax(out).probs.mean(0))
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("row", [0, 2, 4])
def test_an_output_that_is_not_finite_names_the_row_of_x(row):
    engine, X = dense_engine(), images(5)
    engine.n_reduced = 7
    X[row, 0, 3, 2] = np.inf
    with pytest.raises(ValueError, match=f"row {row} of X"):
        engine.map(X, lambda out: out.mean(0))


def test_a_chunk_is_as_small_as_one_image_and_a_block_as_one_draw(monkeypatch):
    engine = dense_engine()
    assert engine.n_rows == 1024 and engine.n_draws_at_once == N_DRAWS  # small images
    per_draw = 8 * 7 * 24  # float64, seven channels: computed once for all draws
    all_draws = max(per_draw, 8 * N_CLASSES * 24 * N_DRAWS)
    monkeypatch.setitem(_engine._CHUNK_BYTES, "cpu", 4 * all_draws)
    assert dense_engine().n_rows == 4
    monkeypatch.setitem(_engine._CHUNK_BYTES, "cpu", 100)
    monkeypatch.setitem(_engine._BLOCK_BYTES_OF_IMAGES, "cpu", all_draws)
    engine = dense_engine()
    assert engine.n_rows == 1 and engine.n_draws_at_once == N_DRAWS
    monkeypatch.setitem(_engine._BLOCK_BYTES_OF_IMAGES, "cpu", all_draws // 2)
    engine = dense_engine()
    assert engine.n_rows == 1 and engine.n_draws_at_once == N_DRAWS // 2
    monkeypatch.setitem(_engine._BLOCK_BYTES_OF_IMAGES, "cpu", 1)
    assert dense_engine().n_draws_at_once == 1


@pytest.mark.parametrize("n_draws", [1, 2, 3, 4, 10, 100])
def test_the_size_of_many_draws_is_known_from_three(n_draws):
    engine = dense_engine(n_draws=n_draws)
    hidden, outputs = 8 * 7 * 24, 8 * N_CLASSES * 24 * n_draws
    assert engine._bytes_per_row()[0] == max(hidden, outputs)


@pytest.mark.parametrize("places", [PLACES, (9, 7)])
@pytest.mark.parametrize("n_bands", [2, 3, 7])
def test_bands_of_places_bound_the_memory(places, n_bands, monkeypatch):
    engine, X = dense_engine(), images(3, places)
    labels = np.random.default_rng(2).integers(N_CLASSES, size=(3, *places))

    def reduction(out, y):
        return Softmax(out).probs.mean(0), y

    expected = engine.map(X, reduction, labels)
    size = 8 * N_DRAWS * N_CLASSES * places[0] * places[1]
    monkeypatch.setitem(_engine._MAP_BYTES, "cpu", -(-size // n_bands))
    engine.n_rows, engine.n_reduced = 1, 5
    assert engine._plan(X)[2] == n_bands
    held = []
    inner = engine._function
    monkeypatch.setattr(engine, "_function", lambda *plan: noted(inner(*plan), held))
    got = engine.map(X, reduction, labels)
    for one, other in zip(got, expected):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)
    assert max(held) <= -(-places[0] * places[1] // n_bands) and len(held) == 3 * n_bands


def noted(function, held):
    def noting(x, band):
        output = function(x, band)
        held.append(output.shape[3:].numel())
        return output

    return noting


def test_larger_images_come_in_smaller_chunks():
    engine = dense_engine()
    engine.n_rows, engine.n_draws_at_once = 8, 4
    assert engine._plan(images(2))[:2] == (8, 4)
    assert engine._plan(images(2, (12, 8)))[:2] == (2, 4)
    assert engine._plan(images(2, (24, 16)))[:2] == (1, 1)
    assert engine._plan(images(2, (3, 2)))[:2] == (8, 4)


@pytest.mark.parametrize(("shared", "vectorized"), [(1, True), (0, False)])
def test_most_of_a_network_in_each_draw_makes_a_loop(shared, vectorized):
    """Where nearly nothing is computed once for all draws, vmap only costs the layout of images."""
    module = nn.Sequential(nn.Conv2d(2, 30, 3, padding=1), nn.ReLU(), nn.Conv2d(30, 2, 1)).double()
    name = f"{2 * shared}.weight"
    weight = module.get_parameter(name).detach()
    engine = Engine(
        Draws(module.eval(), {name: torch.stack([weight, 2 * weight, 3 * weight])}),
        torch.ones(3, 2, *PLACES).double(),
        FLOAT64,
    )
    assert engine.n_rows and engine.vectorized == vectorized


@pytest.mark.parametrize(("shared", "most"), [(1, 9), (0, 6)])
def test_few_images_decide_how_to_evaluate(shared, most, monkeypatch):
    """Images of some draws are many large tensors: a network that loops is never tried on nine."""
    evaluated, evaluator = [], Engine._evaluator

    def noting(engine, vectorized):
        function = evaluator(engine, vectorized)

        def evaluate(tensors, x):
            evaluated.append((len(next(iter(tensors.values()))) if vectorized else 1) * len(x))
            return function(tensors, x)

        return evaluate

    monkeypatch.setattr(Engine, "_evaluator", noting)
    test_most_of_a_network_in_each_draw_makes_a_loop(shared, bool(shared))
    assert max(evaluated) == most
