"""Errors that a caller may want to catch by name."""

__all__ = ["DivergedError", "PersistenceError"]


class DivergedError(ValueError):
    """Training produced a loss or a weight that is NaN or infinite.

    A subclass of `ValueError`, so that ``GridSearchCV(error_score=...)`` counts a diverged
    candidate as failed instead of scoring it.
    """


class PersistenceError(ValueError):
    """An object cannot be saved, or a file cannot be loaded; the message names what and why."""
