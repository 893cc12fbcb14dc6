"""Monotone maps of which only values are known: where they end, what lies beyond, how steep."""

import math

import numpy as np
import pytest
import torch

from skuq._distributions._monotone import MonotoneMap

EPS = torch.finfo(torch.float64).eps


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def power(lam):
    """Box and Cox's: y = (λz + 1)^(1/λ), NaN where λz < −1."""
    return lambda z: (lam * z + 1) ** (1 / lam), lambda y: (y**lam - 1) / lam


# forward, inverse, the ends, the limits of y there: NaN where there is no end.
MAPS = {
    "exp": (torch.exp, torch.log, (-math.inf, math.inf), (math.nan, math.nan)),
    "cube": (lambda z: z**3, lambda y: y.sign() * y.abs() ** (1 / 3), (-math.inf, math.inf),
             (math.nan, math.nan)),
    "root": (*power(2.0), (-0.5, math.inf), (0.0, math.nan)),
    "pole": (*power(-0.5), (-math.inf, 2.0), (math.nan, math.inf)),
    "steep pole": (*power(-0.7), (-math.inf, 1 / 0.7), (math.nan, math.inf)),
    "square": (torch.square, torch.sqrt, (0.0, math.inf), (0.0, math.nan)),
    "sine": (torch.sin, torch.arcsin, (-math.pi / 2, math.pi / 2), (-1.0, 1.0)),
    "tangent": (torch.tan, torch.arctan, (-math.pi / 2, math.pi / 2), (-math.inf, math.inf)),
    "falling": (lambda z: -torch.square(z), lambda y: torch.sqrt(-y), (0.0, math.inf),
                (0.0, math.nan)),
}  # fmt: skip
PROBES = torch.linspace(-2.6, 3.0, 57, dtype=torch.float64)[:, None]


@pytest.mark.parametrize("name", MAPS)
def test_ends_and_limits(name):
    forward, inverse, ends, limits = MAPS[name]
    found = MonotoneMap(forward, inverse, PROBES)
    at = [float(v) for v in (found.at_low, found.at_high)]
    # Near a turn rounding hides the last half of the digits of z.
    assert [float(found.low), float(found.high)] == pytest.approx(ends, abs=1e-7)
    assert at == pytest.approx(limits, abs=1e-14, nan_ok=True)
    far = found.forward(column(-40.0, 40.0))[:, 0].tolist()
    for value, z, limit in zip(far, (-40.0, 40.0), at):
        expected = float(forward(torch.tensor(z, dtype=torch.float64)))
        assert value == (expected if math.isnan(limit) else limit)


@pytest.mark.parametrize("shift", [0.0, 3.0, -1e6])
@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_ends_do_not_depend_on_the_unit(unit, shift):
    """y = c √(2z + 1) of z = unit · x + shift: the end is where it is, to the last bits."""
    forward = lambda x: 5 * unit * ((x - shift) / unit * 2 + 1) ** 0.5
    inverse = lambda y: shift + unit * ((y / (5 * unit)) ** 2 - 1) / 2
    found = MonotoneMap(forward, inverse, unit * PROBES + shift)
    assert abs(float(found.low) - (shift - unit / 2)) <= 8 * EPS * max(abs(shift), unit)
    assert 0 <= float(found.at_low) <= 5 * unit * (32 * EPS * max(1, abs(shift) / unit)) ** 0.5
    assert float(found.high) == math.inf


def test_what_lies_outside():
    """Of the values of a map with one end, and of one with two."""
    root = MonotoneMap(*power(2.0), PROBES)
    y = column(-1.0, 0.0, 0.1, 50.0)
    below, above = root.outside(y, root.inverse(y))
    assert below[:, 0].tolist() == [True, False, False, False] and not above.any()
    sine = MonotoneMap(torch.sin, torch.arcsin, PROBES)
    y = column(-1.5, -0.999, 0.9, 0.999, 1.5)
    below, above = sine.outside(y, sine.inverse(y))
    assert below[:, 0].tolist() == [True, False, False, False, False]
    assert above[:, 0].tolist() == [False, False, False, False, True]
    fall = MonotoneMap(lambda z: -torch.square(z), lambda y: torch.sqrt(-y), PROBES)
    y = column(-4.0, 0.0, 0.5)
    below, above = fall.outside(y, fall.inverse(y))
    assert not below.any() and above[:, 0].tolist() == [False, False, True]
    # Where only the inverse knows: log y of y <= 0 has no z.
    exp = MonotoneMap(torch.exp, torch.log, PROBES)
    y = column(-1.0, 2.0)
    below, above = exp.outside(y, exp.inverse(y))
    assert below[:, 0].tolist() == [True, False] and not above.any()


SLOPES = {
    "exp": lambda z: np.exp(z),
    "root": lambda z: (2 * z + 1) ** -0.5,
    "pole": lambda z: (1 - 0.5 * z) ** -3,
    "square": lambda z: 2 * z,
    "sine": lambda z: np.cos(z),
    "falling": lambda z: 2 * z,
}


@pytest.mark.parametrize("name", SLOPES)
@pytest.mark.parametrize("unit", [0.03, 1.0])
def test_slopes(name, unit):
    forward, inverse, _, _ = MAPS[name]
    found = MonotoneMap(forward, inverse, PROBES)
    z = column(0.04, 0.3, 0.9, 1.3)
    slope = found.log_slope(forward(z), z, torch.full_like(z, unit))
    expected = -np.log(SLOPES[name](z.numpy()))  # log |dz/dy|
    np.testing.assert_allclose(slope.numpy(), expected, rtol=0, atol=1e-6)


def test_slopes_at_an_end_and_beside_a_kink():
    forward, inverse, _, _ = MAPS["square"]
    found = MonotoneMap(forward, inverse, PROBES)
    zero = column(0.0)
    assert float(found.log_slope(zero, zero, torch.ones(1, 1))) == math.inf  # it stands still
    kinked = lambda z: torch.where(z < 1, z, 3 * z - 2)
    back = lambda y: torch.where(y < 1, y, (y + 2) / 3)
    found = MonotoneMap(kinked, back, PROBES)
    z = column(0.999, 1.001)
    slope = found.log_slope(kinked(z), z, torch.ones(2, 1))
    np.testing.assert_allclose(slope.numpy(), [[0.0], [-np.log(3)]], atol=1e-6)


def test_targets_by_themselves_and_rows_that_are_refused():
    """scikit-learn's transformers raise for a batch in which one row is outside."""

    def inverse(y):
        if bool((y <= 0).any()):
            raise ValueError("positive only")
        return y.log()

    probes = PROBES.expand(-1, 2)
    found = MonotoneMap(torch.exp, inverse, probes)
    y = torch.tensor([[1.0, 2.0], [-1.0, 3.0], [4.0, math.inf]], dtype=torch.float64)
    z = found.inverse(y)
    np.testing.assert_allclose(z[0].numpy(), np.log([1, 2]))
    assert z[1].isnan().all()  # a row is refused as a whole
    assert float(z[2, 0]) == pytest.approx(np.log(4)) and bool(z[2, 1].isnan())


@pytest.mark.parametrize(
    ("forward", "inverse"),
    [
        (lambda z: z * math.nan, lambda y: y),  # defined nowhere
        (lambda z: torch.where(z.abs() < 0.3, math.nan, z), lambda y: y),  # nor in a gap
    ],
)
def test_what_is_no_map(forward, inverse):
    with pytest.raises(ValueError, match="gives NaN, or is not monotone"):
        MonotoneMap(forward, inverse, PROBES)
