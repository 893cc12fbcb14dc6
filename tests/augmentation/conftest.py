"""Fitted estimators that the tests of augmentation share."""

import pytest

from tests.augmentation.helpers import classifier, regressor
from tests.networks import ConvNet


@pytest.fixture(scope="module")
def fitted(blobs):
    return classifier().fit(*blobs)


@pytest.fixture(scope="module")
def images(digits):
    X, y = digits
    return X.reshape(-1, 1, 8, 8), y


@pytest.fixture(scope="module")
def on_images(images):
    return classifier(module=ConvNet).fit(*images)


@pytest.fixture(scope="module")
def fitted_regressor(diabetes):
    return regressor().fit(*diabetes)
