"""What in the input makes it unsure? Uncertainty attributed to pixels and columns."""

from skuq.attribution._attribute import attribute_uncertainty
from skuq.attribution._display import AttributionDisplay, plot_global
from skuq.attribution._planted import PlantedRegions, planted_regions
from skuq.attribution._result import Attribution, mean_by_class
from skuq.attribution._scores import (
    Detection,
    Overlap,
    Reduction,
    detection_accuracy,
    iou,
    segment_ceiling,
    uncertainty_reduction,
)

__all__ = [
    "Attribution",
    "AttributionDisplay",
    "Detection",
    "Overlap",
    "PlantedRegions",
    "Reduction",
    "attribute_uncertainty",
    "detection_accuracy",
    "iou",
    "mean_by_class",
    "planted_regions",
    "plot_global",
    "segment_ceiling",
    "uncertainty_reduction",
]
