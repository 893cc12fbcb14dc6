"""`save` and `load`."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.utils.validation import check_is_fitted
from torch import nn

from skuq._estimator._base import TorchEstimator
from skuq._utils._messages import warn
from skuq._utils._sklearn_compat import BaseSearchCV
from skuq._utils._typing import StrPath
from skuq._version import __version__
from skuq.exceptions import PersistenceError
from skuq.persistence import _container, _json
from skuq.persistence._decoder import Decoder
from skuq.persistence._encoder import Encoder
from skuq.persistence._modules import Modules
from skuq.persistence._networks import decode_estimator, encode_estimator
from skuq.persistence._tensors import TensorReader, TensorWriter

__all__ = ["FORMAT", "load", "manifest_of", "parts_of", "save"]

FORMAT = 1


def save(estimator: Any, path: StrPath, *, keep_rows: bool = True) -> None:
    """Save a fitted estimator in a file without pickle, which is safe to open.

    Parameters
    ----------
    estimator : skuq estimator, calibrator or TestTimeAugmentation, or scikit-learn Pipeline, \
            FeatureUnion, ColumnTransformer, TransformedTargetRegressor, FrozenEstimator or search \
            around them
        The fitted estimator. For a search, the file holds the best estimator. `save` knows
        scikit-learn's scalers, encoders, imputers and a few more transformers.
    path : str or path-like
        The path of the file; by convention it ends in ``.skuq``. An existing file is replaced at
        once, or stays if an error occurs. It keeps its permissions. `save` follows a symbolic link.
    keep_rows : bool, default=True
        Whether the file holds three rows of the training data, on which `load` checks the network,
        and a hash of each row, by which calibrators see that they get training rows again. False
        leaves out both: `load` then checks the network on rows of random numbers, and nothing knows
        which rows trained it.

    Raises
    ------
    PersistenceError
        If a file cannot hold an object: the message names the object, its place, and a fix. Also if
        `load` would refuse the file: `save` loads it once before it replaces the old one.
    NotFittedError
        If the estimator is not fitted.
    ImportError
        If safetensors is missing (the extra ``save``).

    Warns
    -----
    UserWarning
        If `save` left out parameters that only another `fit` needs: callbacks, or an optimizer of
        your own.

    See Also
    --------
    load : Load the object again.
    inspect : Show the content of a file.

    Notes
    -----
    Labels, names of columns, categories, and what scalers learn (means, ranges, quantiles) stay in
    the file in any case.

    The check takes about as long as writing the file. Meanwhile it needs memory for a second copy
    of the networks and two copies of the file. It builds the networks again with `module`, on the
    CPU.

    Examples
    --------
    >>> import tempfile, os
    >>> from sklearn.datasets import load_iris
    >>> import skuq
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = skuq.TorchClassifier(max_epochs=5, random_state=0).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "iris.skuq")
    ...     skuq.save(classifier, path)
    ...     again = skuq.load(path)
    >>> bool((again.predict_proba(X) == classifier.predict_proba(X)).all())
    True
    """
    if isinstance(estimator, type) or not isinstance(estimator, BaseEstimator):
        kind, hint = type(estimator), "to save only a torch module, use safetensors"
        if kind.__module__.startswith("mapie"):
            hint = "save the estimator inside of it, and conformalize again after loading"
        raise PersistenceError(
            f"save takes a fitted estimator, got {kind.__qualname__} of {kind.__module__}; {hint}"
        )
    check_is_fitted(estimator)
    parts, factories, left_out = parts_of(estimator, keep_rows)
    _container.write(path, parts, partial(_check_loads, factories=factories))
    if left_out:
        warn(
            f"save left out, because predictions do not need it: {'; '.join(left_out)}. Before "
            "another fit, set it again.",
            UserWarning,
        )


def parts_of(
    estimator: Any, keep_rows: bool = True
) -> tuple[_container.Parts, dict[str, Any], list[str]]:
    """Encode an estimator: the parts of the file, builders that `load` needs, and notes."""
    tensors, factories = TensorWriter(), dict[str, Any]()
    encoder = Encoder(tensors, partial(_encode_special, factories=factories), keep_rows)
    manifest = {
        "format": FORMAT,
        "versions": {
            "skuq": __version__,
            "torch": torch.__version__.partition("+")[0],
            "scikit-learn": sklearn.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "object": encoder(estimator),
        "left_out": encoder.notes,
    }
    return _container.Parts(_json.dump(manifest), tensors.dump()), factories, encoder.notes


def _check_loads(path: Path, factories: dict[str, Any]) -> None:
    """Refuse to keep a file that `load` would refuse, while the old one is still there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            load(path, module=factories or None, device="cpu")
        except PersistenceError as error:
            raise PersistenceError(
                f"nothing was saved, because load would refuse the file: {error}"
            ) from error


def _encode_special(encoder: Encoder, value: Any, factories: dict[str, Any]) -> Any:
    if isinstance(value, TorchEstimator):
        return encode_estimator(encoder, value, factories)
    if isinstance(value, BaseSearchCV) and hasattr(value, "cv_results_"):
        if not hasattr(value, "best_estimator_"):
            raise PersistenceError(
                f"{encoder.place} is a {type(value).__name__} with refit=False, which holds no "
                "fitted estimator; set refit=True or name a metric"
            )
        return encoder(value.best_estimator_)
    return None


def load(
    path: StrPath,
    module: Callable[..., nn.Module] | dict[str, Callable[..., nn.Module]] | None = None,
    device: str | torch.device = "auto",
) -> Any:
    """Load a fitted object from a file of `save`, without running anything in the file.

    Parameters
    ----------
    path : str or path-like
        The file to read.
    module : class or callable returning a torch.nn.Module, or dict of str to those, default=None
        The class or function that built the network, because files hold no code. The file holds the
        parameters ``module__*`` for its call. Not needed if the estimator had ``module=None``. For
        networks of several classes, give a dictionary by their names in the file. If
        `skuq.from_trained` got an instance, give any class, function or instance with the same
        layers; its weights do not matter.
    device : str or torch.device, default="auto"
        The device for the networks. "auto" takes the estimator's own parameter `device`, or the CPU
        if there is no such device.

    Returns
    -------
    estimator : object
        The fitted object, of the class that was saved.

    Raises
    ------
    PersistenceError
        A `ValueError`. If the file is damaged, forged, of a newer format, or does not come from
        `save`. Also if `module` is not the module that was saved: it must have the same tensors
        and give the same outputs on three rows.
    OSError
        If the file cannot be read.
    ImportError
        If safetensors is missing (the extra ``save``).

    Warns
    -----
    InconsistentVersionWarning
        If another version of scikit-learn saved its objects.
    UserWarning
        If the name of `module` differs from the saved name.

    See Also
    --------
    save : Save an object; has an example.

    Notes
    -----
    On the same machine, with the same versions and number of threads, predictions are
    bit-identical. Elsewhere they agree up to rounding, which `load` checks.
    """
    modules = Modules(module, device)
    parts = _container.read(path)
    manifest = manifest_of(parts)
    tensors = TensorReader(parts.tensors)
    special: dict[str, Any] = {"module": modules, "trained": modules.trained}
    special["estimator"] = partial(decode_estimator, device=device)
    estimator = Decoder(tensors, special)(manifest["object"])
    tensors.check_all_used()
    if not isinstance(estimator, BaseEstimator):
        raise PersistenceError(f"the file holds no estimator but {type(estimator).__name__}")
    try:
        check_is_fitted(estimator)
    except Exception as error:  # forged attributes may raise any error
        raise PersistenceError(f"the estimator in the file is not fitted: {error}") from None
    modules.check()
    _warn_of_versions(parts, manifest)
    return estimator


def manifest_of(parts: _container.Parts) -> dict[str, Any]:
    """Parse the manifest; refuse unknown formats."""
    manifest: Any = _json.parse(parts.manifest, "manifest.json")
    number = manifest.get("format") if isinstance(manifest, dict) else None
    if type(number) is not int or number < 1:
        raise PersistenceError("manifest.json has no format number: skuq.save did not write it")
    versions = manifest.get("versions")
    texts = versions.values() if isinstance(versions, dict) else [None]
    if not all(isinstance(text, str) for text in texts):
        raise PersistenceError("manifest.json does not say by which versions it was written")
    if number > FORMAT:
        raise PersistenceError(
            f"the file has format {number}, of skuq {versions.get('skuq', '?')[:40]}; this is skuq "
            f"{__version__}, which reads formats up to {FORMAT}: upgrade skuq"
        )
    left_out = manifest.get("left_out")
    if not isinstance(left_out, list) or not all(isinstance(note, str) for note in left_out):
        raise PersistenceError("manifest.json does not list the parameters that were left out")
    if set(manifest) != {"format", "versions", "left_out", "object"}:
        raise PersistenceError(f"manifest.json has the keys {sorted(manifest)[:20]}"[:500])
    checked: dict[str, Any] = manifest
    return checked


def _warn_of_versions(parts: _container.Parts, manifest: dict[str, Any]) -> None:
    """Warn of another version of scikit-learn, whose private attributes may differ."""
    before = manifest["versions"].get("scikit-learn", "?")
    same = before.split(".")[:2] == sklearn.__version__.split(".")[:2]
    if not same and b'"class":"sklearn.' in parts.manifest:
        warn(
            InconsistentVersionWarning(
                estimator_name="an object in the file",
                current_sklearn_version=sklearn.__version__,
                original_sklearn_version=before[:40],
            ),
        )
