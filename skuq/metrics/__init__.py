"""Measure how good an uncertainty is: functions of (y_true, ...), scorers, displays."""

from skuq.metrics._bootstrap import BootstrapInterval, bootstrap
from skuq.metrics._calibration import (
    canonical_calibration_error,
    expected_calibration_error,
    smooth_calibration_error,
)
from skuq.metrics._display import ReliabilityDisplay
from skuq.metrics._display_band import PredictionBandDisplay
from skuq.metrics._display_decomposition import DecompositionDisplay
from skuq.metrics._display_novelty import NoveltyHistogramDisplay, NoveltyROCDisplay
from skuq.metrics._display_plane import ClassPlaneDisplay
from skuq.metrics._display_regression import PITDisplay, RegressionCalibrationDisplay
from skuq.metrics._display_segmentation import SegmentationDisplay
from skuq.metrics._display_uncertainty import RiskCoverageDisplay, UncertaintyHistogramDisplay
from skuq.metrics._intervals import (
    interval_score,
    mean_interval_width,
    pinball_loss,
    prediction_interval_coverage,
    quantile_calibration_error,
)
from skuq.metrics._novelty import NoveltyMetrics, novelty_metrics
from skuq.metrics._overlap import (
    dice_score,
    intersection_over_union,
    mean_dice_score,
    mean_intersection_over_union,
    pixel_accuracy,
)
from skuq.metrics._pixel_uncertainty import (
    PatchScores,
    pavpu_score,
    pixel_accuracy_at_coverage,
    pixel_calibration_error,
    pixel_risk_coverage_curve,
)
from skuq.metrics._proper import (
    BrierDecomposition,
    brier_decomposition,
    brier_score,
    negative_log_likelihood,
)
from skuq.metrics._ready_scorers import (
    aurc_scorer,
    brier_scorer,
    classwise_ece_scorer,
    crps_scorer,
    ece_scorer,
    error_auroc_scorer,
    interval_score_scorer,
    mean_dice_scorer,
    mean_iou_scorer,
    nll_scorer,
    picp_scorer,
    pixel_accuracy_scorer,
)
from skuq.metrics._regression import (
    crps,
    expected_normalized_calibration_error,
    gaussian_nll,
    pit_values,
    sharpness,
)
from skuq.metrics._scorers import (
    UncertaintyScorer,
    UncertaintyScorers,
    make_uncertainty_scorer,
    uncertainty_scorers,
)
from skuq.metrics._segmentation_scores import SegmentationScores
from skuq.metrics._selective import (
    RiskCoverageCurve,
    SelectiveGuarantee,
    accuracy_at_coverage,
    area_under_risk_coverage,
    coverage_at_risk,
    risk_coverage_curve,
    uncertainty_error_auroc,
)

__all__ = [
    # intervals of all of them
    "bootstrap",
    "BootstrapInterval",
    # classification
    "expected_calibration_error",
    "canonical_calibration_error",
    "smooth_calibration_error",
    "negative_log_likelihood",
    "brier_score",
    "brier_decomposition",
    "BrierDecomposition",
    # segmentation
    "intersection_over_union",
    "mean_intersection_over_union",
    "dice_score",
    "mean_dice_score",
    "pixel_accuracy",
    "pixel_calibration_error",
    "pixel_risk_coverage_curve",
    "pixel_accuracy_at_coverage",
    "pavpu_score",
    "PatchScores",
    "SegmentationScores",
    # regression
    "gaussian_nll",
    "crps",
    "interval_score",
    "pinball_loss",
    "prediction_interval_coverage",
    "mean_interval_width",
    "expected_normalized_calibration_error",
    "quantile_calibration_error",
    "sharpness",
    "pit_values",
    # any uncertainty
    "risk_coverage_curve",
    "RiskCoverageCurve",
    "area_under_risk_coverage",
    "uncertainty_error_auroc",
    "accuracy_at_coverage",
    "coverage_at_risk",
    "SelectiveGuarantee",
    # novelty
    "novelty_metrics",
    "NoveltyMetrics",
    # scorers
    "make_uncertainty_scorer",
    "uncertainty_scorers",
    "UncertaintyScorer",
    "UncertaintyScorers",
    "ece_scorer",
    "classwise_ece_scorer",
    "nll_scorer",
    "brier_scorer",
    "crps_scorer",
    "picp_scorer",
    "interval_score_scorer",
    "aurc_scorer",
    "error_auroc_scorer",
    "mean_iou_scorer",
    "mean_dice_scorer",
    "pixel_accuracy_scorer",
    # pictures
    "ReliabilityDisplay",
    "RiskCoverageDisplay",
    "UncertaintyHistogramDisplay",
    "DecompositionDisplay",
    "NoveltyHistogramDisplay",
    "NoveltyROCDisplay",
    "PredictionBandDisplay",
    "RegressionCalibrationDisplay",
    "PITDisplay",
    "ClassPlaneDisplay",
    "SegmentationDisplay",
]
