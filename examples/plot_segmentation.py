"""
Segmentation: where in the image is it unsure, and why?
=======================================================

An ensemble of networks learns to label the pixels of images of shapes. Borders of the masks are
drawn a bit too large or too small, and grey rectangles hide parts of the images. So the labels are
uncertain there, however many images there are: the aleatoric part is large. The training images
have no squares. In a test image with a square, each network takes it for something else: the
epistemic part is large.

Takes a minute. The picture of the guide is made by
``python examples/plot_segmentation.py docs/segmentation.png``.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
import torch

from skuq import TorchSegmenter
from skuq.datasets import SHAPE_NAMES, make_shapes
from skuq.metrics import SegmentationDisplay, SegmentationScores
from skuq.posteriors import DeepEnsemble

torch.set_num_threads(1)  # the networks are small
SQUARE, UNKNOWN = SHAPE_NAMES.index("square"), 255
SHOWN = 4

# %%
# Shapes, and networks that never saw a square. Pixels of squares in the test masks get the label
# that does not count, since no answer could be right.

train = make_shapes(200, leave_out=SQUARE, random_state=0)
test = make_shapes(100, random_state=1)
masks = np.where(test.y == SQUARE, UNKNOWN, test.y)
segmenter = TorchSegmenter(
    posterior=DeepEnsemble(n_members=5),
    ignore_label=UNKNOWN,
    module__base_width=8,
    module__depth=2,
    lr=0.02,
    max_epochs=20,
    batch_size=16,
    random_state=0,
).fit(train.X, train.y)

# %%
# How good is it, and does its certainty mean something?

scores = SegmentationScores.from_estimator(segmenter, test.X, masks)
print(f"mean IoU {scores.mean_intersection_over_union():.3f}", end=", ")
print(f"ECE {scores.calibration_error():.3f}, accuracy of the most certain pixels:")
for coverage in (1, 0.9, 0.8, 0.7):
    print(f"  {coverage:4.0%}  {scores.accuracy_at_coverage(coverage):.3f}")

# %%
# Which part is large where?
# --------------------------
# Pixels near borders and under occluders are only in their own rows of the table.

plain = ~test.jittered & ~test.occluded
areas = {
    "background": plain & (test.y_clean == 0),
    "discs and triangles": plain & np.isin(test.y_clean, (1, 3)),
    "jittered borders": test.jittered & (test.y_clean != SQUARE),
    "occluders": test.occluded & (test.y_clean != SQUARE),
    "squares, left out": plain & (test.y_clean == SQUARE),
}
parts = segmenter.predict_uncertainty(test.X, kind="all")
print(f"{'nats per pixel':22}aleatoric  epistemic")
for name, area in areas.items():
    print(f"{name:22}{parts.aleatoric[area].mean():9.3f}{parts.epistemic[area].mean():11.3f}")

# %%
# Four images with squares, which are hatched.

with_squares = np.argsort(-(test.y == SQUARE).mean(axis=(1, 2)))[:40]
shown = with_squares[np.argsort(-test.occluded[with_squares].mean(axis=(1, 2)))[:SHOWN]]
display = SegmentationDisplay.from_estimator(
    segmenter,
    test.X[shown],
    masks[shown],
    n_images=SHOWN,
    class_names=[SHAPE_NAMES[label] for label in segmenter.classes_],
    name="squares, hatched, were left out of training",
)
display.figure_.set_label(
    "Images of shapes with their masks, predicted labels, and maps of both uncertainties: the "
    "aleatoric part lines the borders and occluders, the epistemic part fills the squares."
)

if sys.argv[1:]:
    display.figure_.savefig(sys.argv[1], dpi=80)
else:
    plt.show()
