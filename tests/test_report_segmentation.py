"""The report of a segmenter: the numbers of its pixels, the most uncertain images."""

import re

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import make_pipeline

import skuq
from skuq import TorchSegmenter
from skuq import metrics as m
from skuq.datasets import make_shapes
from skuq.posteriors import MCDropout
from tests.test_report import parsed

VOID = 255


class Brighter(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def transform(self, X):
        return X + 0.1


@pytest.fixture(scope="module")
def segmented():
    shapes = make_shapes(20, size=16, random_state=0)
    y = shapes.y.copy()
    y[:, 0] = VOID
    network = TorchSegmenter(
        module__base_width=4, module__depth=1, max_epochs=2, lr=0.01, ignore_label=VOID,
        posterior=MCDropout(3), random_state=0,
    )  # fmt: skip
    return make_pipeline(Brighter(), network).fit(shapes.X, y), shapes.X, y


def test_numbers_and_images(segmented, tmp_path):
    model, X, y = segmented
    page = skuq.report(model, X, y, n_most_uncertain=7, title="<i>mine</i>")
    seen = parsed(page.html)
    assert seen.count("img") == 3 + 1 and "i" not in seen
    expected = {
        "mean IoU": m.mean_iou_scorer(model, X, y),
        "mean Dice": m.mean_dice_scorer(model, X, y),
        "pixel accuracy": m.pixel_accuracy_scorer(model, X, y),
        "negative log-likelihood (nats per pixel)": -m.nll_scorer(model, X, y),
        "Brier score": -m.brier_scorer(model, X, y),
        "ECE (top label, 15 bins)": -m.ece_scorer(model, X, y),
    }
    assert {name: page.metrics[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    predicted, total = model.predict(X), skuq.predict_uncertainty(model, X)
    patches = m.pavpu_score(y, predicted, total, ignore_label=VOID)
    named = [page.metrics[name] for name in page.metrics if "patches" in name]
    assert named == pytest.approx(
        [patches.pavpu, patches.accurate_if_certain, patches.uncertain_if_inaccurate]
    )
    rows = [re.findall(r"<td>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", page.html)]
    order = np.argsort(-total.mean(axis=(1, 2)), kind="stable")[:7]
    assert [row[0] for row in rows if len(row) == 4] == [str(i) for i in order]
    iou = m.intersection_over_union(y, predicted, ignore_label=VOID, labels=model.classes_)
    assert [row[2] for row in rows if len(row) == 5] == [f"{value:.3f}" for value in iou]
    assert f"20 images, {(y != VOID).sum()} pixels that count" in page.html
    assert page.save(tmp_path / "page.html").read_text(encoding="utf-8") == page.html


def test_what_is_refused(segmented):
    model, X, y = segmented
    with pytest.raises(ValueError, match=r"at least 2 images, got \(1, 16, 16\)"):
        skuq.report(model, X[:1], y[:1])
    with pytest.raises(ValueError, match=r"height, width\).*got \(20,\)"):
        skuq.report(model, X, y[:, 3, 3])
    with pytest.raises(ValueError, match="inconsistent"):
        skuq.report(model, X, y[:19])
    with pytest.raises(ValueError, match="no novelty"):
        skuq.report(model, X, y, novelty=object())
