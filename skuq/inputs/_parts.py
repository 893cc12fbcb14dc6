"""The uncertainty of a prediction from noisy inputs, in parts."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["InputUncertainty"]


class InputUncertainty(NamedTuple):
    """Total uncertainty in three parts: ``total = noise + input + epistemic``.

    Attributes
    ----------
    total : array
        The sum of the other three.
    noise : array
        What remains uncertain if function and inputs are known.
    input : array
        What comes from the error of the inputs. The sum of this and `noise` is the aleatoric
        uncertainty.
    epistemic : array
        The disagreement of the draws.
    """

    total: Any
    noise: Any
    input: Any
    epistemic: Any
