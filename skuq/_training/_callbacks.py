"""The view of a training for skorch's callbacks: targets, predictions and scores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import ClassifierTags, RegressorTags
from torch import Tensor

__all__ = ["CallbackView", "check_monitors", "naming_history"]


def check_monitors(callbacks: list[tuple[str, Any]]) -> None:
    """Refuse callbacks that monitor validation rows; call it if there are none."""
    missing, kinds = {"valid_loss"}, {}
    for name, callback in callbacks:
        kinds[name] = {kind.__name__ for kind in type(callback).__mro__}
        if kinds[name] & {"ScoringBase", "PassthroughScoring"} and not callback.on_train:
            missing.add(getattr(callback, "name_", callback.name))
    for name, callback in callbacks:
        monitor = getattr(callback, "monitor", None)
        waits = bool(kinds[name] & {"EarlyStopping", "Checkpoint"})
        if "LRScheduler" in kinds[name]:
            waits = callback.policy_ is torch.optim.lr_scheduler.ReduceLROnPlateau
        if waits and isinstance(monitor, str) and monitor.removesuffix("_best") in missing:
            raise ValueError(
                f"callback {name!r} monitors {monitor!r}, a number from validation rows, and there "
                "are none. Set early_stopping=True, which sets validation_fraction of the rows "
                "apart (callbacks__early_stopping=None then leaves stopping to your callbacks), or "
                "monitor 'train_loss'"
            )


@contextmanager
def naming_history(callback: Any, history: Any) -> Iterator[None]:
    """Say what the history holds if a callback asks for anything else: a misspelt monitor."""
    try:
        yield
    except (KeyError, ValueError) as error:
        if "not found in history" not in str(error):
            raise
        keys = sorted(
            key for key in history[-1] if key != "batches" and not key.startswith("event_")
        )
        raise ValueError(
            f"{type(callback).__name__} asks for an entry that the history lacks: "
            f"{error.args[0]!s}. Expected one of {', '.join(keys)}; name a score with "
            "EpochScoring(..., name=...) before it"
        ) from error


class CallbackView:
    """Mixin of the net: predicts class indices and probabilities, or means in the units of y."""

    criterion_: Any
    forward: Any

    def in_units_of_y(self, target: Tensor) -> Tensor:
        """Convert targets of the training to class indices, or to the units of y."""
        likelihood = self.criterion_.likelihood
        if likelihood.task == "classification":
            return target
        return torch.as_tensor(likelihood.decode(target.cpu().double().numpy()))

    def _predictive(self, X: Any) -> Any:
        output = torch.as_tensor(self.forward(X)).detach().movedim(1, -1)  # places before outputs
        return self.criterion_.likelihood.predictive(output.double())

    @property
    def classes_(self) -> np.ndarray:
        return np.arange(self.criterion_.likelihood.n_classes_)

    def predict_proba(self, X: Any) -> np.ndarray:
        proba: np.ndarray = self._predictive(X).probs.numpy()
        return proba

    def predict(self, X: Any) -> np.ndarray:
        if self.criterion_.likelihood.task == "classification":
            labels: np.ndarray = self.predict_proba(X).argmax(-1)
            return labels
        mean: np.ndarray = self._predictive(X).mean.numpy()
        return mean

    def score(self, X: Any, y: Any) -> float:
        """Compute the accuracy, or R²."""
        score = accuracy_score if self.criterion_.likelihood.task == "classification" else r2_score
        return float(score(y, self.predict(X)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        if self.criterion_.likelihood.task == "classification":
            tags.estimator_type, tags.classifier_tags = "classifier", ClassifierTags()
        else:
            tags.estimator_type, tags.regressor_tags = "regressor", RegressorTags()
        return tags
