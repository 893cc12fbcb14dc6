"""The container of several inputs, and its rows of numbers."""

import pickle

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.model_selection import KFold, train_test_split

from skuq import Inputs
from skuq._data._inputs import Packer, as_inputs, packed, planned
from tests.networks.texts import padded, ragged_rows

SEVERAL = {
    "image": np.arange(48.0).reshape(2, 1, 4, 6),
    "ids": np.array([[3, 1, 2], [4, 0, 0]]),
    "mask": np.array([[True, True, True], [True, False, False]]),
    "age": np.array([30.5, 41.0]),
    "signal": np.arange(12.0).reshape(2, 3, 2),
}


def unpacked(inputs, layout=None, dtype=np.float32):
    layout = layout or planned(inputs)
    return layout.unpacked(torch.as_tensor(packed(inputs, layout, dtype)))


def test_a_module_gets_what_was_given():
    found = unpacked(Inputs(SEVERAL))
    assert {name: value.dtype for name, value in found.items()} == {
        "image": torch.float32,
        "ids": torch.int64,
        "mask": torch.bool,
        "age": torch.float32,
        "signal": torch.float32,
    }
    for name, value in found.items():
        np.testing.assert_array_equal(value, SEVERAL[name])


def test_rows_of_networks_or_draws_come_apart_alike():
    inputs = Inputs(SEVERAL)
    layout = planned(inputs)
    rows = torch.as_tensor(packed(inputs, layout, np.float32))
    stacked = layout.unpacked(torch.stack([rows, rows.flip(0)]))
    for name, value in layout.unpacked(rows).items():
        assert torch.equal(stacked[name], torch.stack([value, value.flip(0)]))


def test_only_the_longest_sequences_may_have_another_length():
    inputs = Inputs(ids=np.ones((2, 7), int), codes=np.ones((2, 3), int), x=np.ones((2, 7)))
    layout = planned(inputs)
    assert {part.name: part.free for part in layout.parts} == {
        "ids": True,
        "codes": False,
        "x": False,
    }
    longer = Inputs(ids=np.full((1, 9), 5), codes=np.ones((1, 3), int), x=np.ones((1, 7)))
    assert unpacked(longer, layout)["ids"].tolist() == [[5] * 9]
    with pytest.raises(ValueError, match=r"'codes' has rows of shape \(4,\).*fitted on .*\(3\)"):
        packed(Inputs({**longer.arrays, "codes": np.ones((1, 4), int)}), layout, np.float32)


def test_rows_of_several_lengths_are_padded_with_a_mask():
    rows, _ = ragged_rows(5)
    found = unpacked(Inputs(input_ids=rows))
    expected = padded(rows)
    np.testing.assert_array_equal(found["input_ids"], expected["input_ids"])
    np.testing.assert_array_equal(found[""], expected["attention_mask"])
    two = [np.ones((3, 2)), np.full((1, 2), 2.0)]
    assert unpacked(Inputs(x=two))["x"][1].tolist() == [[2, 2], [0, 0], [0, 0]]


def test_a_batch_is_cut_to_its_longest_row():
    rows, _ = ragged_rows(30)
    layout = planned(Inputs(input_ids=rows))
    short = [row for row in rows if len(row) <= 4]
    whole = torch.as_tensor(packed(Inputs(input_ids=rows), layout, np.float32))
    few = whole[[k for k, row in enumerate(rows) if len(row) <= 4]]
    assert layout.trimmed(few).shape[1] == 1 + 4 < whole.shape[1]
    np.testing.assert_array_equal(
        layout.unpacked(layout.trimmed(few))["input_ids"], padded(short)["input_ids"]
    )


@pytest.mark.parametrize(
    "key", [slice(1, 3), [2, 0], np.array([True, False, True, False]), torch.tensor([3]), range(2)]
)
def test_it_indexes_like_an_array(key):
    values = np.arange(8).reshape(4, 2)
    taken = Inputs(values, b=values[:, 0])[key]
    index = np.asarray(key) if not isinstance(key, slice) else key
    np.testing.assert_array_equal(taken.arrays["0"], values[index])
    np.testing.assert_array_equal(taken.arrays["b"], values[index, 0])
    assert taken.shape == (len(taken),) == values[index].shape[:1]


def test_scikit_learn_splits_it():
    rows, y = ragged_rows(20)
    X = Inputs(input_ids=rows)
    train, test, y_train, y_test = train_test_split(X, y, random_state=0)
    assert (len(train), len(test)) == (len(y_train), len(y_test)) == (15, 5)
    assert [len(part) for _, part in KFold(4).split(X)] == [5] * 4


def test_it_survives_pickle_and_prints_itself():
    X = Inputs(ids=[[1, 2], [3]], table=[[0.5], [1.0]])
    assert repr(X) == "Inputs(ids: 2 rows of several lengths, table: (2, 1) float64)"
    again = pickle.loads(pickle.dumps(X))
    assert again.arrays["ids"][0].tolist() == [1, 2]
    assert [row["table"].tolist() for row in X] == [[0.5], [1.0]]


def test_tensors_lists_and_objects_are_arrays():
    X = Inputs({"a": torch.ones(2, 3), "b": [1, 2], "c": np.array([1, 2.5], dtype=object)})
    assert {name: array.dtype.kind for name, array in X.arrays.items()} == {
        "a": "f", "b": "i", "c": "f"
    }  # fmt: skip


def test_whole_numbers_and_truths_stay_what_they_are():
    X = Inputs(a=np.array([[1, 2]], dtype=object), b=np.array([True], dtype=object))
    assert [array.dtype.kind for array in X.arrays.values()] == ["i", "b"]


def test_arrays_in_a_list_are_no_inputs():
    with pytest.raises(ValueError, match=r"2 arrays .* \(3, 2\) and \(3, 4\).*Inputs\(\*X"):
        as_inputs((np.ones((3, 4)), np.ones((3, 2))))
    rows = [np.ones(2), np.ones(2)]
    assert as_inputs(rows) is rows


BAD = {
    "nothing": (lambda: Inputs(), "at least one"),
    "lengths": (lambda: Inputs(np.ones(3), np.ones(2)), "different numbers of rows"),
    "text": (lambda: Inputs(x=["a", "b"]), "expected numbers"),
    "objects": (lambda: Inputs(x=np.array([1, "b"], dtype=object)), "the value 'b'"),
    "name": (lambda: Inputs({"no name": np.ones(2)}), "arguments of the module"),
    "one value": (lambda: Inputs(x=3), "n_samples rows"),
    "two axes": (lambda: Inputs(x=[[[1], [1, 2]], [[1]]]), "more than their lengths"),
    "widths": (lambda: Inputs(x=[np.ones((2, 2)), np.ones((1, 3))]), "more than their lengths"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_input_is_refused(case):
    make, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        make()
    with pytest.raises(IndexError, match="indices or a mask"):
        Inputs(np.ones(3))["a"]


LATER = {
    "other names": ({"ids": np.ones((1, 2), int)}, "has the inputs"),
    "not whole": ({"ids": np.full((1, 2), 0.5), "mask": np.ones((1, 2))}, "not whole"),
    "large": ({"ids": np.full((1, 2), 2**24 + 1), "mask": np.ones((1, 2))}, "precision="),
    "two lengths": ({"ids": np.ones((1, 2), int), "mask": np.ones((1, 3))}, "different lengths"),
    "NaN": ({"ids": np.full((1, 2), np.nan), "mask": np.ones((1, 2))}, r"X\['ids'\] contains NaN"),
    "ragged": ({"ids": [[1], [1, 2]], "mask": [[1], [1, 1]]}, "in fit all had one"),
}  # fmt: skip


@pytest.mark.parametrize("case", LATER)
def test_what_does_not_fit_the_first_rows_is_refused(case):
    layout = planned(Inputs(ids=np.ones((2, 2), int), mask=np.ones((2, 2), int)))
    given, message = LATER[case]
    with pytest.raises(ValueError, match=message):
        packed(Inputs(given), layout, np.float32)


def test_empty_rows_are_refused():
    X = Inputs(ids=[[1, 2], [], [3]])
    with pytest.raises(ValueError, match="row 1 of the input 'ids' is empty"):
        packed(X, planned(X), np.float32)


def test_sparse_matrices_by_keys_are_arrays():
    X = sparse.dok_matrix(np.eye(3))
    assert as_inputs(X) is X
    assert as_inputs({"x": X}).arrays["x"].tolist() == np.eye(3).tolist()


def test_float64_holds_larger_whole_numbers():
    X = Inputs(ids=np.full((1, 2), 2**24 + 1))
    assert unpacked(X, dtype=np.float64)["ids"].tolist() == [[2**24 + 1] * 2]


def test_items_of_a_dataset_have_the_layout_of_the_first():
    packer = Packer(None, np.float32)
    row = packer({"ids": torch.tensor([1, 2]), "x": 0.5})
    assert row.tolist() == [0.5, 1, 2]
    assert packer({"x": 1.5, "ids": [7, 8, 9]}).tolist() == [1.5, 7, 8, 9]
    plain = np.ones(3)
    assert packer(plain) is plain
