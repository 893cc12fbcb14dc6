"""Calibration: probabilities that match frequencies, intervals that reach their level."""

from skuq.calibration._classification import TemperatureScaler, VectorScaler
from skuq.calibration._regression import (
    QuantileRecalibrator,
    VarianceScaler,
    fit_variance_scale,
)
from skuq.calibration._temperature import fit_temperature
from skuq.calibration._vector import fit_vector_scaling

__all__ = [
    "TemperatureScaler",
    "VectorScaler",
    "VarianceScaler",
    "QuantileRecalibrator",
    "fit_temperature",
    "fit_vector_scaling",
    "fit_variance_scale",
]
