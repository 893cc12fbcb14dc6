"""Find rows that are unlike the known ones: a detector, and a classifier with a density."""

from skuq.novelty._detector import NoveltyDetector
from skuq.novelty._discriminant import GaussianDiscriminant

__all__ = ["GaussianDiscriminant", "NoveltyDetector"]
