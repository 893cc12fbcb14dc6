"""What in the input makes it unsure? Uncertainty attributed to pixels and columns."""

from skuq.attribution._attribute import attribute_uncertainty
from skuq.attribution._result import Attribution, mean_by_class

__all__ = ["Attribution", "attribute_uncertainty", "mean_by_class"]
