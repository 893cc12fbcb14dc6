"""Noise in the inputs: `InputNoise` passes the error of measured features on to predictions."""

from skuq.inputs._noise import InputNoise
from skuq.inputs._parts import InputUncertainty

__all__ = ["InputNoise", "InputUncertainty"]
