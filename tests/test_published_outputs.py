"""Published outputs of real classifiers; skipped where the data is not at hand."""

import json

import numpy as np
import pytest
from scipy.stats import spearmanr

from skuq.calibration import fit_temperature
from skuq.metrics import canonical_calibration_error, expected_calibration_error
from skuq.uncertainty import entropy, entropy_decomposition


@pytest.fixture
def reference(outputs):
    entries = json.loads((outputs / "reference.json").read_text())
    return {entry["name"]: entry for entry in entries}


def test_decomposition_of_seven_models(outputs, reference):
    with np.load(outputs / "cifar10_7models_probs.npz") as file:
        draws = file["probs"].astype(float)
    draws /= draws.sum(-1, keepdims=True)
    parts = entropy_decomposition(draws)
    expected = reference["ensemble7_public"]
    for part, name in zip(parts, ("total_entropy", "expected_entropy", "mutual_information")):
        assert part.mean() == pytest.approx(expected[f"mean_{name}"], abs=1e-5)


def classifiers(outputs):
    with np.load(outputs / "cifar10_7models_probs.npz") as file:
        for name, proba in zip(file["models"], file["probs"]):
            yield f"cifar10_{name}", proba, file["labels"]
    for path in sorted(outputs.glob("netcal_*_probs.npz")):
        with np.load(path) as file:
            yield path.name.removesuffix("_probs.npz"), file["probs"], file["labels"]


def test_temperatures(outputs, reference):
    """Fitted on the first half of the test set, judged on the second."""
    seen = 0
    for name, proba, labels in classifiers(outputs):
        expected = reference.get(name) or reference[name.removeprefix("cifar10_")]
        logits = np.log(np.clip(proba.astype(float), 1e-30, None))
        temperature = fit_temperature(logits[:5000], labels[:5000])
        assert temperature == pytest.approx(expected["T_first_half"], rel=0.01), name
        scaled = logits[5000:] / temperature
        scaled -= np.logaddexp.reduce(scaled, axis=1, keepdims=True)
        y = labels[5000:]
        nll = -scaled[np.arange(len(y)), y].mean()
        assert nll == pytest.approx(expected["nll_second_half_after"], abs=1e-3), name
        labels_ = np.arange(proba.shape[1])
        ece = expected_calibration_error(y, np.exp(scaled), labels=labels_)
        assert ece == pytest.approx(expected["ece15_second_half_after"], abs=1e-4), name
        raw = logits[5000:] - np.logaddexp.reduce(logits[5000:], axis=1, keepdims=True)
        assert np.array_equal(scaled.argmax(1), raw.argmax(1)), name
        before = expected_calibration_error(y, np.exp(raw), labels=labels_)
        assert before == pytest.approx(expected["ece15_second_half_before"], abs=1e-4), name
        nll = -raw[np.arange(len(y)), y].mean()
        assert nll == pytest.approx(expected["nll_second_half_before"], abs=1e-3), name
        seen += 1
    assert seen == 10


def test_published_calibration_errors(outputs):
    with np.load(outputs / "markus93_top1.npz") as file:
        nets = sorted({key.rsplit("_", 1)[0] for key in file.files})
        found = {}
        for net in nets:
            hit = file[f"{net}_true"] == file[f"{net}_pred"]
            confidence = file[f"{net}_conf"].astype(float)
            found[net] = expected_calibration_error(hit, confidence, kind="binary")
    published = (0.0475, 0.2116)  # Rahimi et al. 2020, Table 1
    for value in published:
        assert min(abs(value - other) for other in found.values()) < 5e-5


def test_canonical_errors_of_seven_models(outputs):
    """Widmann et al. 2019, total variation, 10 bins per class."""
    with np.load(outputs / "cifar10_7models_probs.npz") as file:
        for proba, expected in zip(file["probs"], file["widmann_ECE_uniform_TV"]):
            value = canonical_calibration_error(file["labels"], proba.astype(float))
            assert value == pytest.approx(float(expected), abs=1e-6)


def test_entropy_is_that_of_human_labels_in_part(outputs):
    with np.load(outputs / "cifar10_7models_probs.npz") as file:
        mean = file["probs"].astype(float).mean(0)
    mean /= mean.sum(-1, keepdims=True)
    with np.load(outputs / "cifar10h_counts.npz") as file:
        counts = file[file.files[0]].astype(float)
    human = entropy(counts / counts.sum(1, keepdims=True))
    assert spearmanr(entropy(mean), human).statistic == pytest.approx(0.3312, abs=1e-3)
