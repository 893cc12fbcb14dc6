"""Test-time augmentation: predictions averaged over views of each row, and votes of the views."""

from skuq.augmentation._answers import ViewPredictions
from skuq.augmentation._estimator import TestTimeAugmentation
from skuq.augmentation._mixing import NestedUncertainty
from skuq.augmentation._views import Crop, FeatureNoise, Flip, GaussianNoise, Shift, View
from skuq.augmentation._votes import (
    MultiViewVote,
    VoteThreshold,
    multi_view_vote,
    vote_threshold,
)

__all__ = [
    "TestTimeAugmentation",
    "View",
    "Crop",
    "FeatureNoise",
    "Flip",
    "GaussianNoise",
    "Shift",
    "multi_view_vote",
    "vote_threshold",
    "MultiViewVote",
    "NestedUncertainty",
    "ViewPredictions",
    "VoteThreshold",
]
