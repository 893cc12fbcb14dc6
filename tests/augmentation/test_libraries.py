"""Transforms of kornia and torchvision as views.

Those of torchvision are skipped where it is not installed, or was built for another torch.
"""

import importlib

import numpy as np
import pytest
import torch

from skuq import TorchClassifier
from skuq.augmentation import TestTimeAugmentation
from skuq.posteriors import PointEstimate
from tests.networks import ConvNet


@pytest.fixture(scope="module")
def images(digits):
    X, y = digits
    return X.reshape(-1, 1, 8, 8)[:200], y[:200]


def check(transform, images, same_for_all):
    """Predictions are repeatable functions of a row, and differ from those without views."""
    X, y = images
    network = TorchClassifier(
        ConvNet, posterior=PointEstimate(), max_epochs=5, lr=0.01, random_state=0
    )
    augmented = TestTimeAugmentation(network, transform, n_views=4, random_state=0).fit(X, y)
    assert [view.row_by_row for view in augmented._evaluation.views] == [not same_for_all] * 3
    proba = augmented.predict_proba(X)
    assert np.abs(proba - augmented.estimator_.predict_proba(X)).max() > 1e-3
    np.testing.assert_allclose(augmented.predict_proba(X[::-1])[::-1], proba, atol=1e-6)
    np.testing.assert_allclose(augmented.predict_proba(X[[5]]), proba[[5]], atol=1e-6)


@pytest.mark.usefixtures("untouched_globals")
@pytest.mark.filterwarnings("ignore")  # of the library
@pytest.mark.parametrize("name", ["flip", "rotation", "crop", "sequence"])
def test_kornia(images, name):
    kornia = importlib.import_module("kornia.augmentation")  # a test dependency: never skipped
    transform = {
        "flip": lambda: kornia.RandomHorizontalFlip(p=0.8),
        "rotation": lambda: kornia.RandomRotation(10.0, p=1.0),
        "crop": lambda: kornia.RandomResizedCrop((8, 8), (0.8, 1.0)),
        "sequence": lambda: kornia.AugmentationSequential(
            kornia.RandomAffine(5.0, (0.05, 0.05), p=0.9), kornia.RandomGaussianNoise(0.0, 0.05)
        ),
    }[name]()
    check(transform, images, same_for_all=True)
    first = next(m for m in transform.modules() if hasattr(m, "same_on_batch"))
    assert not first.same_on_batch  # the user's own is as it was


@pytest.mark.filterwarnings("ignore")
def test_a_crop_of_kornia_that_changes_the_shape(images):
    kornia = importlib.import_module("kornia.augmentation")  # a test dependency: never skipped
    with pytest.raises(ValueError, match="changed the shape"):
        check(kornia.RandomCrop((6, 6)), images, same_for_all=True)


def torchvision_transforms():
    try:
        return importlib.import_module("torchvision.transforms.v2")
    except ModuleNotFoundError:
        pytest.skip("torchvision is not installed")
    except (ImportError, RuntimeError, OSError) as error:  # its operators do not load
        pytest.skip(f"torchvision was built for another torch than {torch.__version__}: {error}")


@pytest.mark.usefixtures("untouched_globals")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["affine", "noise"])
def test_torchvision(images, name):
    transforms = torchvision_transforms()
    if name == "affine":  # one for all rows
        check(transforms.RandomAffine(10, (0.1, 0.1)), images, same_for_all=True)
    else:
        check(transforms.GaussianNoise(0.0, 0.1), images, same_for_all=False)
