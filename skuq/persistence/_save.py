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


def save(estimator: Any, path: StrPath) -> None:
    """Save a fitted estimator in a file without pickle, which anyone may open.

    Parameters
    ----------
    estimator : skuq estimator, calibrator or TestTimeAugmentation, or scikit-learn Pipeline, \
            FeatureUnion, ColumnTransformer, TransformedTargetRegressor, FrozenEstimator or search \
            around them
        Fitted. Of a fitted search the best estimator is saved. Of scikit-learn's transformers
        scalers, encoders, imputers and a few more are known.
    path : str or path-like
        Where to; by convention it ends in ``.skuq``. An existing file is replaced at once, or
        stays if something fails. It keeps its permissions, and a symbolic link is followed.

    Raises
    ------
    PersistenceError
        For an object that a file cannot hold: the message names it, where it is, and what to do.
        Also if `load` would refuse the file: it is loaded once before it replaces the old one.
    NotFittedError
        If the estimator is not fitted.
    ImportError
        Without safetensors, the extra ``save``.

    Warns
    -----
    UserWarning
        Where something that only another `fit` would need was left out: callbacks, or an optimizer
        of your own.

    See Also
    --------
    load : Makes the object again.
    inspect : Shows what is in a file.

    Notes
    -----
    The file holds three rows of the training data (against which `load` checks the network) and a
    hash of every row.

    To load the file for the check takes about as long as writing it, and for that time the memory
    of a second copy of the networks and of two copies of the file. Networks are built again by
    `module`, on the CPU.

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
        kind, hint = type(estimator), "a torch module alone is saved by safetensors"
        if kind.__module__.startswith("mapie"):
            hint = "save the estimator inside of it, and conformalize again where it is loaded"
        raise PersistenceError(
            f"save takes a fitted estimator, got {kind.__qualname__} of {kind.__module__}; {hint}"
        )
    check_is_fitted(estimator)
    parts, factories, left_out = parts_of(estimator)
    _container.write(path, parts, partial(_check_loads, factories=factories))
    if left_out:
        warnings.warn(
            f"not saved, and not needed for predictions: {'; '.join(left_out)}. Before "
            "another fit they must be set anew.",
            UserWarning,
            stacklevel=2,
        )


def parts_of(estimator: Any) -> tuple[_container.Parts, dict[str, Any], list[str]]:
    """The content of a file, the classes that `load` must be given, and what was left out."""
    tensors, factories = TensorWriter(), dict[str, Any]()
    encoder = Encoder(tensors, partial(_encode_special, factories=factories))
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
                f"nothing was saved, since load would refuse the file: {error}"
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
    """Make a fitted object again from a file of `save`; nothing in the file is run.

    Parameters
    ----------
    path : str or path-like
        The file to read.
    module : class or callable returning a torch.nn.Module, or dict of str to those, default=None
        What built the network: files name no code. Not needed where the estimator had
        ``module=None``. It is called with the parameters ``module__*`` that are in the file. For
        networks of several classes, a dictionary by the names that the file has for them. For what
        `skuq.from_trained` made of an instance, any class, function or instance that has the same
        layers; its weights are not used.
    device : str or torch.device, default="auto"
        Where networks are to be. "auto" is where the estimator's own parameter `device` says, or
        the CPU where there is no such device.

    Returns
    -------
    estimator : object
        The fitted object, of the class that was saved.

    Raises
    ------
    PersistenceError
        A `ValueError`, for a file that is damaged, forged, of a newer format or no file of `save`
        at all, and for a module that is not the one that was saved: it must have the same tensors
        and give the same outputs on three rows.
    OSError
        If the file cannot be read.
    ImportError
        Without safetensors, the extra ``save``.

    Warns
    -----
    InconsistentVersionWarning
        scikit-learn's own, where its objects were saved by another version of it.
    UserWarning
        Where `module` has another name than that which was saved.

    See Also
    --------
    save : Where there is an example.

    Notes
    -----
    The same numbers to the bit on the same machine, versions and number of threads; elsewhere to
    rounding, which is checked.
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
    except Exception as error:  # of an object whose attributes are forged it may be any
        raise PersistenceError(f"the estimator in the file is not fitted: {error}") from None
    modules.check()
    _warn_of_versions(parts, manifest)
    return estimator


def manifest_of(parts: _container.Parts) -> dict[str, Any]:
    """The manifest, if it is one of a format that is known here."""
    manifest: Any = _json.parse(parts.manifest, "manifest.json")
    number = manifest.get("format") if isinstance(manifest, dict) else None
    if type(number) is not int or number < 1:
        raise PersistenceError("manifest.json has no format number: it is not of skuq.save")
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
        raise PersistenceError("manifest.json does not say what was left out")
    if set(manifest) != {"format", "versions", "left_out", "object"}:
        raise PersistenceError(f"manifest.json has the keys {sorted(manifest)[:20]}"[:500])
    checked: dict[str, Any] = manifest
    return checked


def _warn_of_versions(parts: _container.Parts, manifest: dict[str, Any]) -> None:
    """Attributes of scikit-learn's objects are its own, and change from version to version."""
    before = manifest["versions"].get("scikit-learn", "?")
    same = before.split(".")[:2] == sklearn.__version__.split(".")[:2]
    if not same and b'"class":"sklearn.' in parts.manifest:
        warnings.warn(
            InconsistentVersionWarning(
                estimator_name="an object in the file",
                current_sklearn_version=sklearn.__version__,
                original_sklearn_version=before[:40],
            ),
            stacklevel=3,
        )
