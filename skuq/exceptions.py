"""Errors that a caller may want to catch by name."""

__all__ = ["DivergedError"]


class DivergedError(ValueError):
    """Training produced a loss or a weight that is NaN or infinite.

    A subclass of `ValueError`, so that ``GridSearchCV(error_score=...)`` counts a diverged
    candidate as failed instead of scoring it.
    """
