"""Views by themselves, and how those of others are made functions of a row."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skuq.augmentation import Crop, FeatureNoise, Flip, GaussianNoise, Shift, View
from skuq.augmentation._fixed import FixedView, _name, fix

IMAGES = torch.arange(2 * 3 * 4 * 5, dtype=torch.float64).reshape(2, 3, 4, 5)
VIEWS = [
    Flip(), Flip(-2), Shift(2), Shift(1, fill="zero"), Shift(1, fill="wrap"), Crop(0.5),
    GaussianNoise(0.2), FeatureNoise(0.3).fit(IMAGES),
]  # fmt: skip


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_a_view_is_a_function_of_the_row_and_the_seed(view):
    viewed = view(IMAGES, seeded())
    assert viewed.shape == IMAGES.shape and not torch.equal(viewed, IMAGES)
    assert torch.equal(view(IMAGES, seeded()), viewed)
    assert torch.equal(view(IMAGES[1:], seeded()), viewed[1:])
    if not isinstance(view, Flip):
        assert any(not torch.equal(view(IMAGES, seeded(k)), viewed) for k in range(1, 9))
    assert not fix(view, 1, 0, IMAGES).row_by_row


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_a_view_is_a_scikit_learn_object(view):
    assert repr(clone(view)) == repr(view) and view.get_params()
    view.validate()


def test_flip_by_hand():
    assert torch.equal(Flip()(IMAGES, seeded()), IMAGES[..., [4, 3, 2, 1, 0]])
    assert torch.equal(Flip(-2)(IMAGES, seeded()), IMAGES[..., [3, 2, 1, 0], :])
    assert torch.equal(Flip().inverse(Flip()(IMAGES, seeded())), IMAGES)


@pytest.mark.parametrize("fill", ["edge", "zero", "wrap"])
def test_shift_by_hand(fill):
    """Against NumPy's padding, for every move that there is."""
    modes = {"edge": "edge", "zero": "constant", "wrap": "wrap"}
    images = torch.rand(2, 3, 6, 7, generator=seeded())
    padded = np.pad(images.numpy(), [(0, 0), (0, 0), (2, 2), (2, 2)], mode=modes[fill])
    moves = {(i, j): padded[..., i : i + 6, j : j + 7] for i in range(5) for j in range(5)}
    seen = set()
    for seed in range(200):
        viewed = Shift(2, fill=fill)(images, seeded(seed)).numpy()
        (move,) = (where for where, moved in moves.items() if np.array_equal(moved, viewed))
        seen.add(move)
    assert seen == set(moves) - {(2, 2)}  # never by none


def test_only_what_is_lost_nowhere_can_be_moved_back():
    shift = Shift(2, axes=(-1,), fill="wrap")
    for seed in range(5):
        assert torch.equal(shift.inverse(shift(IMAGES, seeded(seed)), seeded(seed)), IMAGES)
    assert not hasattr(Shift(), "inverse") and not hasattr(Crop(), "inverse")
    assert GaussianNoise().inverse(IMAGES) is IMAGES


def test_crop_keeps_constants_and_enlarges():
    assert torch.allclose(Crop()(torch.ones(2, 1, 8, 8), seeded()), torch.ones(2, 1, 8, 8))
    ramp = torch.linspace(0, 1, 16).expand(1, 1, 16, 16)
    span = [float(Crop(0.5)(ramp, seeded(k)).diff(dim=-1)[0, 0, 8, 4:12].mean()) for k in range(20)]
    assert 1 / 15 / 2 - 1e-6 <= min(span) < max(span) <= 1 / 15 + 1e-6


def test_noise_has_its_size():
    X = torch.zeros(1, 20_000, dtype=torch.float64)
    assert float(GaussianNoise(0.3)(X, seeded()).std()) == pytest.approx(0.3, rel=0.02)
    rows = torch.randn(50, 20_000, generator=seeded(), dtype=torch.float64) * 5
    noise = FeatureNoise(0.1).fit(rows)(X, seeded(1))
    assert float(noise.std()) == pytest.approx(0.5, rel=0.02)
    constant = FeatureNoise(0.1).fit(torch.ones(5, 3))
    assert torch.equal(constant(torch.ones(2, 3), seeded()), torch.ones(2, 3))


@pytest.mark.parametrize("view", [Flip(), Shift(), Crop()], ids=str)
def test_tables_have_nothing_to_flip(view):
    with pytest.raises(ValueError, match="images or sequences"):
        view(torch.zeros(3, 4), seeded())


@pytest.mark.parametrize("view", [Flip(-3), Shift(axes=(-1, -3))], ids=str)
def test_rows_are_not_mixed(view):
    """Axis −3 of a batch of sequences counts the rows; of images, the channels."""
    with pytest.raises(ValueError, match="needs an axis -3 in each row"):
        view(torch.zeros(3, 4, 5), seeded())
    assert view(torch.zeros(3, 4, 5, 6), seeded()).shape == (3, 4, 5, 6)
    assert Flip(-2)(torch.arange(4).reshape(1, 2, 2), seeded()).tolist() == [[[2, 3], [0, 1]]]


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (Flip(0), "axis"),
        (Shift(0), "max_shift"),
        (Shift(1, axes=(1,)), "negative integers"),
        (Shift(1, fill="mirror"), "fill"),
        (Crop(1.5), "min_scale"),
        (GaussianNoise(0), "std"),
        (FeatureNoise(-1), "scale"),
    ],
)
def test_bad_parameters(view, message):
    with pytest.raises(ValueError, match=message):
        view.validate()


def test_a_shift_out_of_the_image_is_refused():
    with pytest.raises(ValueError, match="all of the 4 pixels"):
        Shift(4)(IMAGES, seeded())
    assert Shift(3)(IMAGES, seeded()).shape == IMAGES.shape


# ---------------------------------------------------------------------------------------------
# Functions of others

ROWS = torch.randn(20, 6, generator=seeded(), dtype=torch.float64)


def per_row(X):
    return X + torch.randn_like(X)


def per_row_generator(X, generator):
    return X + torch.randn(X.shape, generator=generator).to(X)


def per_row_numpy(X):
    return X + torch.from_numpy(np.random.standard_normal(X.shape))  # noqa: NPY002


def coins(X):
    """In most batches of a few rows nothing happens at all."""
    return torch.where(torch.rand(len(X), 1) < 0.01, -X, X)


def mixes_rows(X):
    return X - X.mean(0)


def once(X, generator):
    return X * (1 + torch.rand(1, generator=generator).to(X))


@pytest.mark.usefixtures("untouched_globals")
@pytest.mark.parametrize("view", [per_row, per_row_generator, per_row_numpy, coins, mixes_rows])
def test_what_depends_on_neighbours_is_applied_row_by_row(view):
    fixed = fix(view, 1, 3, ROWS)
    assert fixed.row_by_row
    viewed = fixed(ROWS)
    assert torch.equal(fixed(ROWS[[7]]), viewed[[7]])
    assert torch.equal(fixed(ROWS.flip(0)), viewed.flip(0))


@pytest.mark.usefixtures("untouched_globals")
@pytest.mark.parametrize("view", [once, torch.neg, lambda X: X.numpy() * 2.0])
def test_what_does_not_is_applied_to_batches(view):
    fixed = fix(view, 1, 3, ROWS)
    assert not fixed.row_by_row
    assert torch.equal(fixed(ROWS[[7]]), fixed(ROWS)[[7]])


def test_rounding_is_no_mixing():
    """Products of other sizes round otherwise; what float64 shows beyond that is the view's."""
    mixing = fix(lambda X: X * (1 + 1e-9 * X.mean(0)), 1, 3, ROWS)
    assert mixing.row_by_row
    rounding = fix(lambda X: X * (1 + 2.4e-7 * (len(X) > 1)), 1, 3, ROWS.float())
    assert not rounding.row_by_row


def test_the_generator_is_passed_where_it_is_asked_for():
    asked = []

    def two(X, anything):
        asked.append(type(anything))
        return X

    def keyword(X, generator=None):
        asked.append(type(generator))
        return X

    def other(X, params=None):
        asked.append(type(params))
        return X

    for view in (two, keyword, other):
        FixedView(view, 1, 0)(ROWS)
    assert asked == [torch.Generator, torch.Generator, type(None)]


def test_a_view_never_changes_the_rows():
    before = ROWS.clone()
    FixedView(lambda X: X.mul_(2), 1, 0)(ROWS)
    assert torch.equal(ROWS, before)


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (lambda X: X[:, :3], "changed the shape"),
        (lambda X: X / 0, "NaN or infinity"),
        (lambda X: None, "returned NoneType"),
        (lambda X: X + np.random.default_rng().random(), "another result in each call"),
    ],
)
@pytest.mark.usefixtures("fresh_entropy")
def test_what_is_refused(view, message):
    with pytest.raises(ValueError, match=message):
        fix(view, 1, 0, ROWS)


def test_an_error_of_the_view_says_what_it_was_called_on():
    with pytest.raises(RuntimeError) as caught:
        fix(lambda X: X @ X, 4, 0, ROWS)
    assert "view 4" in caught.value.__notes__[0] and "(32, 6)" in caught.value.__notes__[0]


def test_the_base_class_is_no_view():
    with pytest.raises(NotImplementedError, match="View"):
        View()(ROWS, seeded())


def test_noise_in_proportion_to_nothing_is_refused():
    with pytest.raises(ValueError, match=r"at least 2 samples to learn .*, got 1 sample"):
        FeatureNoise(0.1).fit(torch.ones(1, 3))


def by_keyword(X, *, generator):
    return X + torch.randn(X.shape[1:], generator=generator, dtype=torch.float64)


def after_another(X, scale=1.0, generator=None):
    return X + scale * torch.randn(X.shape[1:], generator=generator, dtype=torch.float64)


def by_place(X, source, /):
    return by_keyword(X, generator=source)


class ByKeyword(torch.nn.Module):
    def forward(self, X, *, generator):
        return by_keyword(X, generator=generator)


@pytest.mark.parametrize("view", [by_keyword, after_another, by_place, ByKeyword()], ids=_name)
def test_a_generator_comes_by_its_name(view):
    """Else by its place, as the second argument."""
    fixed = fix(view, 1, 3, ROWS)
    assert not fixed.row_by_row
    assert torch.equal(fixed(ROWS), by_keyword(ROWS, generator=seeded(3)))


class Rolled:
    """Moved on by a place; the inverse takes a generator by name."""

    def __call__(self, X, *, generator):
        return X.roll(int(torch.randint(1, 4, (), generator=generator)), -1)

    def inverse(self, outputs, *, generator):
        return outputs.roll(-int(torch.randint(1, 4, (), generator=generator)), -1)


def test_an_inverse_gets_the_same_generator_by_name():
    fixed = fix(Rolled(), 1, 0, ROWS)
    assert not torch.equal(fixed(ROWS), ROWS)
    assert torch.equal(fixed.inverse(fixed(ROWS)), ROWS)
