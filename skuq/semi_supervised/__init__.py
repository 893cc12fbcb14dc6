"""Learning from few labels and many rows without one: `MeanTeacher`."""

from skuq.semi_supervised._mean_teacher import MeanTeacher

__all__ = ["MeanTeacher"]
