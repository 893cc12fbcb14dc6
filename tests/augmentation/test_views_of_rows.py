"""Views are functions of a row: in any order and chunk, from a seed, in little memory."""

import numpy as np
import pytest
import torch
from sklearn.pipeline import make_pipeline

from skuq.augmentation import FeatureNoise, Flip, GaussianNoise, Shift, _evaluation
from skuq.metrics import ece_scorer, expected_calibration_error
from tests.augmentation.helpers import classifier, frozen, noisy


@pytest.mark.usefixtures("untouched_globals")
@pytest.mark.parametrize("view", [GaussianNoise(0.3), FeatureNoise(0.3), noisy])
def test_a_row_gets_the_same_alone_in_any_order_and_in_any_chunk(fitted, blobs, view, monkeypatch):
    X, y = blobs
    augmented = frozen(fitted, view, X, y, n_views=4)
    proba, parts = augmented.predict_proba(X), augmented.predict_uncertainty(X, "nested")
    assert np.abs(proba - fitted.predict_proba(X)).max() > 0.01
    order = np.random.default_rng(0).permutation(len(X))
    # Widths that are not divisible by 4 allow for rounding of float32.
    np.testing.assert_allclose(augmented.predict_proba(X[order]), proba[order], atol=1e-6)
    for row in (0, 7, 100):
        np.testing.assert_allclose(augmented.predict_proba(X[[row]]), proba[[row]], atol=1e-6)
    monkeypatch.setattr(_evaluation, "_CHUNK_BYTES", {"cpu": 0})
    engine = fitted._engine
    monkeypatch.setattr(engine, "n_rows", 16)
    assert augmented._evaluation._chunk_rows() == 16
    np.testing.assert_allclose(augmented.predict_proba(X), proba, atol=1e-6)
    again = augmented.predict_uncertainty(X, "nested")
    np.testing.assert_allclose(again.between_views, parts.between_views, atol=1e-6)
    assert ece_scorer(augmented, X, y) == pytest.approx(
        -expected_calibration_error(y, proba), abs=1e-5
    )


def test_views_are_made_where_the_network_is(blobs, device):
    """As rows that the network takes: on its device, in its dtype."""
    X, y = blobs
    seen = set()

    def view(X, generator):
        seen.add((X.device.type, X.dtype, generator.device.type))
        return X + torch.randn(X.shape[1:], generator=generator).to(X)

    network = classifier(device=device, precision="float64").fit(X, y)
    augmented = frozen(network, view, X, y)
    seen.clear()
    on_device = augmented.predict_proba(X)
    assert seen == {(device, torch.float64, "cpu")}
    # Around a Pipeline the same rows go through the Pipeline's own steps.
    around = frozen(make_pipeline("passthrough", network), view, X.astype(float), y)
    np.testing.assert_allclose(around.predict_proba(X.astype(float)), on_device, atol=1e-10)


def test_random_state_fixes_the_views(on_images, images):
    X, y = images
    one, same, other = (
        frozen(on_images, Shift(2), X, y, n_views=4, random_state=seed).predict_proba(X)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-3
    unseeded = frozen(on_images, Shift(2), X, y, n_views=4, random_state=None)
    np.testing.assert_array_equal(unseeded.predict_proba(X), unseeded.predict_proba(X))


def test_views_are_taken_in_turn_and_drawn_anew(on_images, images):
    X, y = images
    augmented = frozen(on_images, [Flip(), Shift(2)], X, y, n_views=6)
    taken = [type(view.view).__name__ for view in augmented._evaluation.views]
    assert augmented.n_views_ == 6 and taken == ["Flip", "Shift"] * 2 + ["Flip"]
    rows = torch.from_numpy(X[:5])
    first, second = (augmented._evaluation.views[k](rows) for k in (1, 3))
    assert not torch.equal(first, second)


def test_memory_holds_a_chunk_at_a_time(fitted, blobs, monkeypatch):
    """Views of one chunk are done before the next begins."""
    X, y = blobs
    augmented = frozen(fitted, [torch.clone] * 3, X, y)
    monkeypatch.setattr(_evaluation, "_CHUNK_BYTES", {"cpu": 0})
    monkeypatch.setattr(fitted._engine, "n_rows", 32)
    sizes = []
    plain = type(fitted)._reduce
    monkeypatch.setattr(type(fitted), "_reduce", lambda *a: (sizes.append(len(a[1])), plain(*a))[1])
    augmented.predict_proba(X)
    assert sizes == [32] * 28 + [16] * 4
