"""The report: the metrics' numbers, self-contained, escaped."""

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import TransformedTargetRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skuq
from skuq import TorchClassifier, TorchRegressor
from skuq.metrics import crps_scorer, ece_scorer, novelty_metrics
from skuq.novelty import NoveltyDetector
from skuq.posteriors import MCDropout, PointEstimate
from tests.networks import ConvNet


class Strict(HTMLParser):
    """Every tag that is opened is closed; what is there is counted."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            assert not (name in ("src", "href") and not value.startswith("data:"))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(html):
    parser = Strict()
    parser.feed(html)
    assert not parser.open
    return parser.seen


@pytest.fixture(scope="module")
def frame(blobs):
    X, y = blobs
    names = ["<script>alert(1)</script>", *(f"f{j}" for j in range(1, X.shape[1]))]
    labels = np.array(["<b>bold</b>", "b & c", "d"])[y]
    return pd.DataFrame(X, columns=names), labels


def test_classification(frame, tmp_path):
    X, y = frame
    network = TorchClassifier(posterior=MCDropout(5), max_epochs=5, random_state=0)
    model = make_pipeline(StandardScaler(), network).fit(X, y)
    page = skuq.report(model, X, y, title="<i>mine</i>", n_most_uncertain=240)
    seen = parsed(page.html)
    assert seen.count("img") == 4 and "script" not in seen and "b" not in seen and "i" not in seen
    assert "&lt;b&gt;bold&lt;/b&gt;" in page.html and "&lt;script&gt;" in page.html
    assert page.metrics["ECE (top label, 15 bins)"] == pytest.approx(-ece_scorer(model, X, y))
    assert page.metrics["accuracy"] == pytest.approx(model.score(X, y))
    assert page.save(tmp_path / "page.html").read_text(encoding="utf-8") == page.html
    assert "<html" not in page._repr_html_() and "AURC" in repr(page)
    rows = re.findall(r"<tr>(.*?)</tr>", page.html)
    listed = [re.findall(r"<td>(.*?)</td>", row) for row in rows]
    totals = [float(cells[3]) for cells in listed if len(cells) > 6]
    assert len(totals) == 240 and totals == sorted(totals, reverse=True)


def test_regression(diabetes):
    X, y = diabetes
    network = TorchRegressor(posterior=MCDropout(4), max_epochs=5, random_state=0)
    model = TransformedTargetRegressor(network, transformer=StandardScaler()).fit(X, y)
    page = skuq.report(model, X, y)
    assert parsed(page.html).count("img") == 4
    assert page.metrics["CRPS"] == pytest.approx(-crps_scorer(model, X, y))
    assert page.metrics["R²"] == pytest.approx(model.score(X, y))
    interval = skuq.predict_interval(model, X, 0.8)
    assert page.metrics["width of 80% intervals"] == pytest.approx(np.ptp(interval, axis=1).mean())


def test_images_are_shown(digits):
    X, y = digits
    images = X.reshape(-1, 1, 8, 8)
    network = TorchClassifier(ConvNet, posterior=MCDropout(3), max_epochs=1, random_state=0)
    page = skuq.report(network.fit(images, y), images[:50], y[:50], n_most_uncertain=3)
    assert parsed(page.html).count("img") == 4 + 3


def test_few_rows_all_right():
    X = np.array([[-3.0], [3.0]] * 20)
    y = np.array([0, 1] * 20)
    network = TorchClassifier(posterior=PointEstimate(), lr=0.05, max_epochs=60, random_state=0)
    page = skuq.report(network.fit(X, y), X[:2], y[:2])
    assert page.metrics["accuracy"] == 1 and "AUROC of errors" not in page.metrics
    with pytest.raises(ValueError, match="at least 2 samples"):
        skuq.report(network, X[:1], y[:1])
    with pytest.raises(ValueError, match="shape"):
        skuq.report(network, X, np.stack([y, y], axis=1))


def rows_of(page):
    return [re.findall(r"<td>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", page.html)]


def test_rows_are_found_by_the_index_of_the_frame(frame):
    X, y = frame
    index = pd.Index([f"patient-{i}" for i in range(len(X))], name="who<b>")
    named = X.set_axis(index)
    network = TorchClassifier(posterior=MCDropout(3), max_epochs=2, random_state=0)
    for given in ((named, y), (X.to_numpy(), pd.Series(y, index))):
        model = network.fit(*given)
        order = np.argsort(-skuq.predict_uncertainty(model, given[0]), kind="stable")[:4]
        page = skuq.report(model, *given, n_most_uncertain=4)
        listed = [cells[0] for cells in rows_of(page) if len(cells) > 6]
        assert listed == [f"patient-{i}" for i in order]
        assert "<th>who&lt;b&gt;</th>" in page.html
    page = skuq.report(model, X.to_numpy(), y, n_most_uncertain=4)
    assert [c[0] for c in rows_of(page) if len(c) > 6] == [str(i) for i in order]


SURE = "share kept at 5 % errors, 95 % sure"


@pytest.mark.parametrize(
    ("n", "kept", "note"), [(143, 0, "0: 143 samples are too few"), (196, 0.5, "1")]
)
def test_too_few_samples_to_be_sure(n, kept, note):
    """With 195 samples that are all right the guarantee cannot be given, with 196 it can."""
    X = np.array([[-3.0], [3.0]] * 98) * np.linspace(1, 2, 196)[:, None]
    y = np.array([0, 1] * 98)
    model = TorchClassifier(posterior=PointEstimate(), lr=0.05, max_epochs=30, random_state=0)
    page = skuq.report(model.fit(X, y), X[:n], y[:n])
    assert page.metrics["accuracy"] == 1
    assert (page.metrics[SURE] > 0) == (n >= 196)
    (row,) = (cells for cells in rows_of(page) if cells[:1] == [SURE])
    assert row[2].startswith(note)
    assert ("196 can suffice" in row[2]) == (n < 196)


def test_a_pages_title_says_what_is_inside(diabetes):
    X, y = diabetes
    network = TorchRegressor(posterior=MCDropout(3), max_epochs=1, random_state=0)
    model = make_pipeline(StandardScaler(), network).fit(X, y)
    page = skuq.report(model, X, pd.Series(y, name="a<b"))
    assert "<h1>Uncertainty of TorchRegressor with MCDropout</h1>" in page.html
    assert "(squared units of a&lt;b)" in page.html and "a<b" not in page.html


@pytest.mark.filterwarnings("ignore:the frozen")  # the same rows again
def test_novelty_is_shown_where_it_is_given(frame):
    X, y = frame
    network = TorchClassifier(posterior=PointEstimate(), max_epochs=5, random_state=0).fit(X, y)
    detector = NoveltyDetector(FrozenEstimator(network)).fit(X, y)
    plain = skuq.report(network, X, y)
    page = skuq.report(network, X, y, novelty=detector)
    seen = parsed(page.html)
    assert seen.count("img") == parsed(plain.html).count("img") + 1
    assert seen.count("table") == 3 and "The strangest samples" in page.html
    assert "strangest" not in plain.html
    flagged = (detector.predict(X) == -1).mean()
    assert page.metrics["share flagged as novel"] == pytest.approx(flagged)
    assert plain.metrics.items() <= page.metrics.items()
    far = X + 20
    page = skuq.report(network, X, y, novelty=detector, X_novel=far)
    found = novelty_metrics(detector.predict_novelty(X), detector.predict_novelty(far))
    assert page.metrics["AUROC of novel rows"] == found.auroc
    assert page.metrics["flagged when 95 % of the novel are found"] == found.fpr_at_95_novel_found
    assert parsed(page.html).count("img") == seen.count("img") + 1
    with pytest.raises(ValueError, match="X_novel needs a detector"):
        skuq.report(network, X, y, X_novel=far)
    with pytest.raises(TypeError, match="fitted NoveltyDetector, got TorchClassifier"):
        skuq.report(network, X, y, novelty=network)


def test_novelty_of_a_regression(diabetes):
    X, y = diabetes
    network = TorchRegressor(posterior=MCDropout(5), max_epochs=3, random_state=0)
    detector = NoveltyDetector(network).fit(X, y)
    page = skuq.report(detector.estimator_, X, y, novelty=detector)
    assert "AUROC of errors by novelty" not in page.metrics
    assert page.metrics["share flagged as novel"] < 0.2
