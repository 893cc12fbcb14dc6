"""Parameters that cannot be are refused, with the reason and the way out."""

import numpy as np
import pytest
from torch import nn

from skuq import TorchClassifier
from skuq.likelihoods import Categorical, Gaussian
from skuq.posteriors import MCDropout
from tests import networks
from tests.estimator.helpers import classifier, regressor


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1}, "'lr' parameter of TorchClassifier"),
        ({"max_epochs": -1}, "'max_epochs' parameter"),
        ({"max_epochs": 0, "early_stopping": True}, "needs epochs to stop, got max_epochs=0"),
        ({"precision": "float8"}, "'precision' parameter"),
        ({"likelihood": Gaussian()}, "needs a likelihood for classification"),
        ({"likelihood": Categorical(label_smoothing=1.0)}, "label_smoothing"),
        ({"posterior": MCDropout(0)}, "'n_draws' parameter of MCDropout"),
        ({"device": "cuda:99"}, "device='cuda:99' is not available"),
        ({"device": "gpu"}, "device='gpu' is not available"),
        ({"module__widht": 3, "module": networks.Plain}, r"Did you mean 'width'\?"),
        ({"optimizer__weight_decy": 0.1}, r"Did you mean 'weight_decay'\?"),
        ({"module__activation": "sigmoidal"}, "activation must be one of"),
        ({"module": lambda: 3}, "expected a torch.nn.Module"),
        ({"module": networks.WithSoftmax}, "WithSoftmax ends in softmax"),
        ({"module": networks.WithSoftmax, "module__log": True}, "ends in log_softmax"),
        ({"module": lambda n_features: nn.Linear(n_features, 4)}, "expected .3, 3.: one logit"),
    ],
    ids=lambda v: "" if isinstance(v, dict) else v,
)
def test_bad_parameters(options, message, blobs):
    with pytest.raises((ValueError, TypeError), match=message):
        classifier(**options).fit(*blobs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"posterior": MCDropout}, r"write posterior=MCDropout\(\)"),
        ({"likelihood": Categorical}, r"write likelihood=Categorical\(\)"),
        (
            {"posterior": "ensemble"},
            r"posteriors\.Posterior, such as DeepEnsemble\(\),.*'ens",
        ),
        ({"likelihood": 3}, r"skuq\.likelihoods\.Likelihood, such as Categorical\(\), .* got 3"),
        ({"learning_rate": 0.1}, r"Did you mean 'lr'\?"),
        ({"hidden_layer_sizes": (3,)}, r"Did you mean 'module__hidden_layer_sizes'\?"),
        ({"seed": 3}, r"Did you mean 'random_state'\?"),
        ({"callbacks": ["EarlyStopping"]}, "list of skorch callbacks"),
        ({"iterator_train__batchsize": 3}, r"Did you mean 'batch_size'\?"),
        ({"optimizer__lr": 0.1}, "not a parameter of Adam that can be set"),
        ({"class_weight": {"Yes": 5.0}}, r"class_weight names 'Yes'.*Did you mean 'yes'\?"),
        ({"criterion": nn.MSELoss}, "no parameter 'criterion'. .*give likelihood="),
        ({"criterion__reduction": "sum"}, "give likelihood="),
        ({"train_split": None}, "no parameter 'train_split'. Use early_stopping=True"),
        ({"class_weight": {"no": 0, "yes": 0}}, "class_weight or sample_weight zero"),
        ({"class_weight": {"no": 0, "yes": 0, "perhaps": 0}}, "weights of all samples"),
        ({"class_weight": {"yes": -5.0}}, "must be finite and >= 0"),
        ({"callbacks__early_stoping__patience": 3}, "there is no such callback"),
        ({"early_stopping": True, "callbacks": "disable"}, "early_stopping=True needs callbacks"),
    ],
    ids=str,
)
def test_other_mistakes(options, message, blobs):
    X, y = blobs
    with pytest.raises((ValueError, TypeError), match=message):
        classifier(**options).fit(X, np.array(["no", "yes", "perhaps"])[y])


@pytest.mark.parametrize(("label", "kind"), [("0", "str"), (np.str_("1"), "str_")])
def test_a_label_of_another_type_in_class_weight(label, kind, blobs):
    with pytest.raises(ValueError, match=f"type int, and this is a {kind}") as caught:
        classifier(class_weight={label: 1.0}).fit(*blobs)
    assert "Did you mean" not in str(caught.value)


def test_parameters_of_a_default_that_is_none():
    with pytest.raises(ValueError, match="posterior is None; give an object"):
        TorchClassifier().set_params(posterior__n_draws=3)
    both = TorchClassifier().set_params(posterior=MCDropout(), posterior__n_draws=3)
    assert both.posterior.n_draws == 3


def test_unknown_names():
    with pytest.raises(TypeError, match=r"no parameter 'modul__width'. Did you mean 'module"):
        TorchClassifier(modul__width=3)
    with pytest.raises(ValueError, match=r"Did you mean 'max_epochs'\?"):
        TorchClassifier().set_params(max_epoch=3)
    assert TorchClassifier().set_params(module__x=3).get_params()["module__x"] == 3


def test_too_few_outputs_for_a_variance(diabetes):
    with pytest.raises(ValueError, match=r"expected \(3, 2\): a mean and a log-variance"):
        regressor(module=lambda n_features: nn.Linear(n_features, 1)).fit(*diabetes)
