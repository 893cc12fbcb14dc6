"""A plugin of pytest: a test gives the same result in every run, whichever ran before it.

All entropy of the operating system reaches NumPy through one function, which `default_rng`,
`RandomState`, `SeedSequence` and, from it, skuq's ``random_state=None`` ask. Here it answers the
same number each time. A constant, not a stream: a fixture that several tests share is made by
whichever comes first. Tests about entropy itself use the fixture `fresh_entropy`.
"""

import random

import numpy as np
import pytest
import torch
from hypothesis import settings
from numpy.random import bit_generator

_FIXED = 0x5EED_5EED_5EED_5EED_5EED_5EED_5EED_5EED
_of_the_system = bit_generator.randbits


def _fixed(n_bits):
    return _FIXED % 2**n_bits


def begin():
    """Fixed entropy, and global generators at their first number."""
    bit_generator.randbits = _fixed
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)


class Repeatable:
    """The hooks; registered for all tests, the doctests of skuq included."""

    def __init__(self):
        settings.register_profile("repeatable", derandomize=True, database=None)
        settings.load_profile("repeatable")
        begin()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self):
        begin()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef):
        """What tests share finds the generators as each test does, and leaves them so."""
        if fixturedef.scope == "function":
            return (yield)
        begin()
        try:
            return (yield)
        finally:
            begin()


@pytest.fixture
def fresh_entropy():
    """The entropy of the operating system, for one test."""
    bit_generator.randbits = _of_the_system
    yield
    bit_generator.randbits = _fixed
