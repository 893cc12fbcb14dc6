"""Find rows that are unlike the known ones: a detector, and a classifier with a density."""

from skuq.novelty._detector import NoveltyDetector

__all__ = ["NoveltyDetector"]
