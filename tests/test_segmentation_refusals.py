"""Images, masks and networks that a segmenter cannot use."""

import numpy as np
import pytest

from tests.networks.dense import Pixelwise, images, segmenter


class Smaller(Pixelwise):
    def forward(self, x):
        return super().forward(x)[..., 1:, :]


class Squashed(Pixelwise):
    def forward(self, x):
        return super().forward(x).softmax(1)


def with_nan(X):
    X = X.copy()
    X[1, 0, 2, 2] = np.nan
    return X


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, y: (X, y[:, 1:], {}), r"y has shape \(6, 5, 4\), expected \(6, 6, 4\)"),
        (lambda X, y: (X, y[:, None], {}), r"expected \(6, 6, 4\).*Give y\[:, 0\]"),
        (lambda X, y: (X, y[:5], {}), r"y has shape \(5, 6, 4\), expected \(6, 6, 4\)"),
        (lambda X, y: (X, np.stack([y, y], 1), {}), "likelihood=Bernoulli"),
        (lambda X, y: (X, y / 4, {}), "fractions such as 0.25.*y > 0.5.*nearest neighbours"),
        (lambda X, y: (X, np.where(y == 0, np.nan, y), {}), "NaN.*ignore_label"),
        (lambda X, y: (X, np.full(y.shape, 9), {"ignore_label": 9}), "every pixel of y is 9"),
        (lambda X, y: (X, np.zeros(y.shape), {}), "only one class"),
        (lambda X, y: (X, None, {}), "requires y"),
        (lambda X, y: (X, y, {"ignore_label": "2"}), "'2' is text, but labels such as . are not"),
        (lambda X, y: (X, y.astype(str), {"ignore_label": 2}), "2 is not text, but .* are text"),
        (lambda X, y: (X, y.astype("int8"), {"ignore_label": 255}), "255 is no int8.*-128 to 127"),
        (lambda X, y: (X, y.astype("uint8"), {"ignore_label": -1}), "-1 is no uint8.*0 to 255"),
        (lambda X, y: (X, y, {"ignore_label": [0, 2]}), r"must be one label, got \[0, 2\]"),
        (lambda X, y: (X, np.array(["a", "b", None])[y], {}), "missing.*name it as ignore_label"),
        (
            lambda X, y: (X, np.array(["a", "b", np.nan], object)[y], {"ignore_label": np.nan}),
            "missing.*'void', y",
        ),
        (lambda X, y: (X, np.array([0, 1, None])[y], {}), r"missing.*np.asarray\(y, dtype=float\)"),
        (lambda X, y: (np.moveaxis(X, 1, -1), y, {}), r"come last: give np\.moveaxis\(X, -1, 1\)"),
        (lambda X, y: (np.moveaxis(X, 1, -1), y[..., None], {}), r"y\[\.\.\., 0\].*np\.moveaxis"),
        (lambda X, y: (X, y[..., None], {}), r"Give y\[\.\.\., 0\]\."),
        (lambda X, y: ([X[0], X[1, :, 1:]], y[:2], {}), "Images of several sizes"),
        (lambda X, y: (X[:, 0], y, {}), r"must hold images.*give X\[:, None\]"),
        (lambda X, y: (X.reshape(6, -1), y, {}), "must hold images"),
        (lambda X, y: (with_nan(X), y, {}), "contains NaN"),
        (lambda X, y: (X, y, {"module": Smaller}), r"width \(5, 4\) for images of \(6, 4\)"),
        (lambda X, y: (X, y, {"module": Squashed}), "ends in softmax"),
        (lambda X, y: (X, y, {"pixel_weight": np.ones((6, 4))}), r"\(6, 4\), expected \(6, 6, 4\)"),
        (lambda X, y: (X, y, {"pixel_weight": -np.ones(y.shape)}), "not negative"),
        (
            lambda X, y: (X, y, {"pixel_weight": np.zeros(y.shape)}),
            "weights of all pixels are zero",
        ),
        (lambda X, y: (X, y, {"pixel_weight": (y == 1) * 1.0}), "only one class is left"),
        (lambda X, y: (X, y, {"class_weight": {5: 1.0}}), "class_weight names 5"),
    ],
)
def test_refusals_name_the_fix(change, message):
    X, y, options = change(*images())
    weight = {"pixel_weight": options.pop("pixel_weight")} if "pixel_weight" in options else {}
    with pytest.raises(ValueError, match=f"(?s){message}"):
        segmenter(**options).fit(X, y, **weight)


def test_predictions_refuse_other_images():
    X, y = images()
    fitted = segmenter().fit(X, y)
    with pytest.raises(ValueError, match=r"3 channels.*fitted on images of 2"):
        fitted.predict(np.concatenate([X, X[:, :1]], axis=1))
    with pytest.raises(ValueError, match=r"images of 6 channels.*np\.moveaxis\(X, -1, 1\)"):
        fitted.predict(np.moveaxis(X, 1, -1))
    with pytest.raises(ValueError, match="NaN"):
        fitted.predict(with_nan(X))
    with pytest.raises(ValueError, match="needs masks"):
        fitted.score(X)
    with pytest.raises(ValueError, match=r"expected \(6, 6, 4\)"):
        fitted.score(X, y[:, 1:])
    with pytest.raises(ValueError, match=r"Give y\[:, 0\]"):
        fitted.score(X, y[:, None])
