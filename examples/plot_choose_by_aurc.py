"""
Choosing a model by how well its uncertainty ranks its errors
=============================================================

Where a model may say no, what matters is that its errors are among the samples that it is least
certain of. The area under the risk-coverage curve (AURC) measures this, and a grid search can
choose by it. Takes about ten seconds.
"""

import sys

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

import skuq
from skuq import TorchClassifier
from skuq.metrics import (
    RiskCoverageDisplay,
    UncertaintyHistogramDisplay,
    aurc_scorer,
    coverage_at_risk,
    ece_scorer,
    error_auroc_scorer,
    nll_scorer,
    uncertainty_scorers,
)
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate

torch.set_num_threads(1)  # the networks are small

# %%
# The search
# ----------
# All four scores come from one evaluation of the posterior per fold. ``refit`` names the one that
# decides.

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, train_size=300, random_state=0)
network = TorchClassifier(max_epochs=30, lr=5e-3, random_state=0)
search = GridSearchCV(
    make_pipeline(MinMaxScaler(), network),
    {
        "torchclassifier__posterior": [PointEstimate(), MCDropout(), DeepEnsemble(n_members=3)],
        "torchclassifier__module__dropout": [0.1, 0.4],
    },
    scoring=uncertainty_scorers(
        aurc=aurc_scorer, auroc=error_auroc_scorer, ece=ece_scorer, nll=nll_scorer
    ),
    refit="aurc",
    cv=3,
).fit(X_train, y_train)

# %%
# Scorers are signed so that higher is better; the table turns the signs back. The order by AURC is
# not that by calibration error.

results = search.cv_results_
print(f"{'posterior':28}{'dropout':>8}{'AURC':>9}{'AUROC':>8}{'ECE':>8}{'NLL':>8}")
for i in results["rank_test_aurc"].argsort(kind="stable"):
    posterior = str(results["param_torchclassifier__posterior"][i])
    dropout = results["param_torchclassifier__module__dropout"][i]
    aurc, auroc, ece, nll = (
        sign * results[f"mean_test_{name}"][i]
        for name, sign in (("aurc", -1), ("auroc", 1), ("ece", -1), ("nll", -1))
    )
    print(f"{posterior:28}{dropout:8}{aurc:9.4f}{auroc:8.3f}{ece:8.3f}{nll:8.3f}")

# %%
# What may be promised
# --------------------
# How many of the most certain digits can be kept, if 2 % errors are allowed?

predicted = search.predict(X_test)
uncertainty = skuq.predict_uncertainty(search, X_test)
promise = coverage_at_risk(y_test, predicted, uncertainty, risk=0.02, delta=0.05)
print(
    f"on {len(y_test)} other digits: accuracy {(predicted == y_test).mean():.3f}; keeping "
    f"the {promise.coverage:.0%} that are most certain, errors are {promise.risk:.2%}, and "
    f"at most {promise.bound:.2%} of new ones with 95 % confidence"
)

# %%
# The left picture shows the share of errors among the digits that are kept, against their share;
# the right one how uncertain right and wrong answers are.

figure, axes = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
for kind in ("total", "epistemic"):
    if skuq.predict_uncertainty(search, X_test, kind).any():
        RiskCoverageDisplay.from_estimator(search, X_test, y_test, kind=kind, name=kind, ax=axes[0])
UncertaintyHistogramDisplay.from_estimator(search, X_test, y_test, name="", ax=axes[1])
figure.set_label(
    "Left: risk-coverage curves; the risk falls towards zero as fewer digits are kept. Right: "
    "histograms of the uncertainty; wrong answers are far more uncertain than right ones."
)

if sys.argv[1:]:
    figure.savefig(sys.argv[1], dpi=100)
else:
    plt.show()
