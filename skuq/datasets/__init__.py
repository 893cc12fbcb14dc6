"""Data whose uncertainty is known (noisy labels, images of shapes), and Datasets for folds."""

from skuq._data._indexed import IndexedDataset
from skuq.datasets._label_noise import (
    CIFAR10_PAIRS,
    FASHION_MNIST_PAIRS,
    PATRINI_MAP,
    FlippedLabels,
    flip_labels,
)
from skuq.datasets._noise_scores import NoiseScores, noise_scores
from skuq.datasets._shapes import SHAPE_NAMES, Shapes, make_shapes

__all__ = [
    "CIFAR10_PAIRS",
    "FASHION_MNIST_PAIRS",
    "PATRINI_MAP",
    "SHAPE_NAMES",
    "FlippedLabels",
    "IndexedDataset",
    "NoiseScores",
    "Shapes",
    "flip_labels",
    "make_shapes",
    "noise_scores",
]
