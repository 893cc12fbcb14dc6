"""Measures: closed forms, bounds, and any array."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skuq import uncertainty as measures

ABOUT_DRAWS = [
    measures.expected_entropy,
    measures.mutual_information,
    measures.entropy_decomposition,
    measures.variance_decomposition,
    measures.variation_ratio,
]
ABOUT_MEANS = [measures.entropy, measures.margin, measures.least_confidence]


@st.composite
def stacks(draw):
    n_draws, n_samples, n_classes = (draw(st.integers(low, 6)) for low in (1, 1, 2))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sharpness = draw(st.sampled_from([0.1, 1.0, 30.0, 1e4]))
    logits = torch.from_numpy(sharpness * random.normal(size=(n_draws, n_samples, n_classes)))
    return logits.softmax(2).numpy()


@settings(deadline=None, derandomize=True, max_examples=200)
@given(stacks())
def test_identities_and_bounds(p):
    n_draws, _, n_classes = p.shape
    total, aleatoric, epistemic = measures.entropy_decomposition(p)
    np.testing.assert_allclose(total, measures.entropy(p.mean(0)), atol=1e-9)
    np.testing.assert_allclose(total, aleatoric + epistemic, atol=1e-12)
    assert (epistemic >= 0).all() and (aleatoric >= 0).all()
    assert (epistemic <= min(np.log(n_draws), np.log(n_classes)) + 1e-9).all()
    assert (total <= np.log(n_classes) + 1e-9).all()
    variance = measures.variance_decomposition(p)
    np.testing.assert_allclose(variance.total, 1 - (p.mean(0) ** 2).sum(1), atol=1e-9)
    np.testing.assert_allclose(variance.epistemic, p.var(0).sum(1), atol=1e-12)
    ratio = measures.variation_ratio(p)
    assert (ratio >= 0).all() and (ratio <= 1 - 1 / min(n_draws, n_classes) + 1e-12).all()
    assert (measures.margin(p.mean(0)) <= 1).all()
    assert (measures.least_confidence(p.mean(0)) <= 1 - 1 / n_classes + 1e-9).all()


@settings(deadline=None, derandomize=True, max_examples=50)
@given(stacks(), st.integers(0, 1000))
def test_order_of_draws_and_classes_does_not_matter(p, seed):
    random = np.random.default_rng(seed)
    shuffled = p[random.permutation(len(p))][:, :, random.permutation(p.shape[2])]
    for measure in (measures.mutual_information, measures.expected_entropy):
        np.testing.assert_allclose(measure(shuffled), measure(p), atol=1e-9)
    for a, b in zip(measures.variance_decomposition(shuffled), measures.variance_decomposition(p)):
        np.testing.assert_allclose(a, b, atol=1e-9)


def test_closed_forms():
    same = np.full((3, 1, 2), 0.5)
    apart = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    log2 = np.log(2)
    np.testing.assert_allclose(np.ravel(measures.entropy_decomposition(same)), [log2, log2, 0])
    np.testing.assert_allclose(np.ravel(measures.entropy_decomposition(apart)), [log2, 0, log2])
    np.testing.assert_allclose(np.ravel(measures.variance_decomposition(apart)), [0.5, 0, 0.5])
    assert measures.variation_ratio(apart) == 0.5
    votes = np.array([[[0.6, 0.4]], [[0.7, 0.3]], [[0.1, 0.9]]])
    np.testing.assert_allclose(measures.variation_ratio(votes), 1 / 3)


def test_of_classes_that_tie_the_first_has_the_vote():
    tied, third = [0.4, 0.4, 0.2], [0.1, 0.2, 0.7]
    draws = np.array([[tied, third], [[0.1, 0.8, 0.1], third], [[0.0, 1.0, 0.0], third]])
    np.testing.assert_allclose(measures.variation_ratio(draws), [1 / 3, 0], atol=1e-15)
    proba = np.array([[0.5, 0.3, 0.2]])
    np.testing.assert_allclose(measures.margin(proba), 0.8)
    np.testing.assert_allclose(measures.least_confidence(proba), 0.5)
    identical = np.repeat([[[0.2, 0.3, 0.5]]], 7, axis=0)
    np.testing.assert_allclose(measures.mutual_information(identical), 0, atol=1e-15)


def test_regression_by_the_law_of_total_variance():
    parts = measures.moment_decomposition([[0.0], [1.0], [2.0]], [[1.0], [2.0], [3.0]])
    np.testing.assert_allclose(np.ravel(parts), [2 + 2 / 3, 2, 2 / 3])


@pytest.mark.parametrize("measure", [*ABOUT_DRAWS, *ABOUT_MEANS], ids=lambda m: m.__name__)
@pytest.mark.parametrize("sharpness", [1.0, 1e4])
def test_arrays_tensors_and_maps(measure, sharpness):
    """The same numbers from NumPy, float32, tensors and images; finite at 0 and 1."""
    random = np.random.default_rng(0)
    logits = torch.from_numpy(sharpness * random.normal(size=(5, 4, 3, 2, 6)))
    stack = logits.softmax(2) if measure in ABOUT_DRAWS else logits[0].softmax(1)
    pixel = stack[..., 1, 2]
    whole, one = measure(stack), measure(pixel.numpy())
    whole, one = ((x if isinstance(x, tuple) else (x,)) for x in (whole, one))
    single = measure(pixel.float().numpy())
    single = single if isinstance(single, tuple) else (single,)
    for image, array, rounded in zip(whole, one, single):
        assert isinstance(image, torch.Tensor) and isinstance(array, np.ndarray)
        assert image.dtype == torch.float64 and array.dtype == np.float64
        assert image.shape == (4, 2, 6) and np.isfinite(array).all()
        np.testing.assert_allclose(image[..., 1, 2].numpy(), array, atol=1e-12)
        np.testing.assert_allclose(rounded, array, atol=1e-5)


def test_gradients_flow():
    p = torch.rand(3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logits = p.log().requires_grad_()
    measures.mutual_information(logits.softmax(2)).sum().backward()
    assert torch.isfinite(logits.grad).all() and float(logits.grad.abs().max()) > 0


@pytest.mark.parametrize("measure", ABOUT_DRAWS, ids=lambda m: m.__name__)
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.full((2, 3, 2), np.nan), "NaN"),
        (np.full((2, 3, 2), 0.7), "sum to 1"),
        (np.array([[[-0.5, 1.5]]]), r"in \[0, 1\]"),
        (np.full((3, 2), 0.5), "at least 3 dimensions"),
        (np.empty((0, 3, 2)), "non-empty"),
    ],
    ids=["nan", "sum", "range", "dimensions", "empty"],
)
def test_bad_input(measure, bad, message):
    with pytest.raises(ValueError, match=message):
        measure(bad)


def test_bad_moments():
    with pytest.raises(ValueError, match="negative"):
        measures.moment_decomposition([[0.0]], [[-1.0]])
    with pytest.raises(ValueError, match="one shape"):
        measures.moment_decomposition([[0.0]], [[1.0, 1.0]])


def test_input_is_not_changed():
    p = np.full((2, 3, 2), 0.5)
    p.flags.writeable = False
    measures.entropy_decomposition(p)
