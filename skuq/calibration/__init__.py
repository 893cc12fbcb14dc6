"""Calibration: probabilities that match frequencies, intervals that reach their level."""

from skuq.calibration._classification import MatrixScaler, TemperatureScaler, VectorScaler
from skuq.calibration._matrix import fit_matrix_scaling
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
    "MatrixScaler",
    "VarianceScaler",
    "QuantileRecalibrator",
    "fit_temperature",
    "fit_vector_scaling",
    "fit_matrix_scaling",
    "fit_variance_scale",
]
