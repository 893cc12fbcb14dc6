"""The numbers of displays as data frames."""

import numpy as np
import pytest

from skuq.metrics import (
    DecompositionDisplay,
    PITDisplay,
    RegressionCalibrationDisplay,
    ReliabilityDisplay,
    RiskCoverageDisplay,
    UncertaintyHistogramDisplay,
)
from skuq.metrics._axes import Display
from skuq.metrics._display_band import PredictionBandDisplay
from skuq.metrics._display_novelty import NoveltyHistogramDisplay, NoveltyROCDisplay
from skuq.metrics._display_plane import ClassPlaneDisplay
from skuq.metrics._display_segmentation import SegmentationDisplay

pytest.importorskip("pandas")
ONE, TWO = np.array([0.2, 0.5, 0.9]), np.array([0.1, 0.4])
ENDS = np.stack([ONE - 0.1, ONE + 0.1], axis=1)
MAPS = np.ones((2, 3, 4))
DISPLAYS = {
    "reliability": (
        ReliabilityDisplay(ONE, ONE, ONE, np.full((2, 3), 0.1), ENDS, 0.0),
        {"confidence": ONE, "from": ENDS[:, 0], "lower": ONE - 0.1, "upper": ONE + 0.1},
    ),
    "band": (PredictionBandDisplay(ONE, ONE, ENDS, 2 * ENDS, 0.9), {"total_upper": 2 * ENDS[:, 1]}),
    "decomposition": (DecompositionDisplay(ONE, 2 * ONE), {"epistemic": 2 * ONE}),
    "wrong": (DecompositionDisplay(ONE, ONE, ONE > 0.3), {"wrong": ONE > 0.3}),
    "risk": (RiskCoverageDisplay(ONE, 2 * ONE, 3 * ONE, 0.1), {"oracle": 3 * ONE}),
    "histogram": (
        UncertaintyHistogramDisplay(ONE, TWO, ("right", "wrong"), 0.5),
        {"group": ["right"] * 3 + ["wrong"] * 2, "uncertainty": np.r_[ONE, TWO]},
    ),
    "pit": (PITDisplay(ONE, 10), {"pit": ONE}),
    "calibration": (RegressionCalibrationDisplay(ONE, ONE / 2), {"observed": ONE / 2}),
    "novelty": (
        NoveltyHistogramDisplay(ONE, TWO, {}),
        {"group": ["known"] * 3 + ["novel"] * 2, "novelty": np.r_[ONE, TWO]},
    ),
    "plane": (
        ClassPlaneDisplay(ENDS, ONE, ONE, ENDS, ONE, ONE[:2], ENDS),
        {"x": ENDS[:, 0], "y": ENDS[:, 1], "label": ONE},
    ),
    "roc": (NoveltyROCDisplay(ONE, ONE**2, {}), {"flagged": ONE, "found": ONE**2}),
    "segmentation": (
        SegmentationDisplay(MAPS, None, MAPS, 2 * MAPS, 3 * MAPS, np.arange(2)),
        {"image": [0, 1], "mean_aleatoric": [2, 2], "mean_epistemic": [3, 3]},
    ),
}


@pytest.mark.parametrize("case", DISPLAYS)
def test_frames(case):
    display, expected = DISPLAYS[case]
    frame = display.frame()
    for name, values in expected.items():
        assert list(frame[name]) == list(values)


def test_every_display_has_one():
    def kinds(cls):
        return {cls, *(kind for inner in cls.__subclasses__() for kind in kinds(inner))}

    tried = {type(display) for display, _ in DISPLAYS.values()}
    assert {kind for kind in kinds(Display) if kind.__name__[0] != "_"} - {Display} == tried
