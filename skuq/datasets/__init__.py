"""Data whose uncertainty is known: labels with noise on purpose, and images of shapes."""

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
    "NoiseScores",
    "Shapes",
    "flip_labels",
    "make_shapes",
    "noise_scores",
]
