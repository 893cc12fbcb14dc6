"""Files of every format that was ever released load, and say what they said."""

import json

import numpy as np
import pytest

import skuq
from skuq.persistence._save import FORMAT
from tests.persistence.formats import FOLDER, MODULES, answers

pytest.importorskip("safetensors")

FILES = sorted(FOLDER.glob("format-*.skuq"))


def test_there_is_a_file_of_each_format():
    assert {int(path.stem.split("-")[1]) for path in FILES} == set(range(1, FORMAT + 1))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.InconsistentVersionWarning")
def test_a_file_loads(path):
    model = skuq.load(path, module=MODULES.get(path.stem.split("-")[2]))
    expected, got = json.loads(path.with_suffix(".json").read_text()), answers(model)
    assert expected.keys() == got.keys()
    for name, values in expected.items():
        if isinstance(values[0], str):
            assert got[name] == values
        else:  # on another machine to rounding
            np.testing.assert_allclose(got[name], values, rtol=1e-4, atol=1e-5)
    assert skuq.inspect(path).format == int(path.stem.split("-")[1])
