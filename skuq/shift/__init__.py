"""Did the world change? Quality under shift, accuracy without labels, and tests for a shift."""

from skuq.shift._accuracy import ExpectedAccuracy, expected_accuracy
from skuq.shift._corruptions import corrupt
from skuq.shift._report import ShiftReport, shift_report
from skuq.shift._test import ShiftTest, shift_test

__all__ = [
    "ExpectedAccuracy",
    "ShiftReport",
    "ShiftTest",
    "corrupt",
    "expected_accuracy",
    "shift_report",
    "shift_test",
]
