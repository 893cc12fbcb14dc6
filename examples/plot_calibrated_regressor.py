"""
Calibrating a regressor: one factor, or a map of all quantiles
==============================================================

Noise that is skewed does not fit the normal distributions that the network predicts. A
``VarianceScaler`` mends the width of its intervals, a ``QuantileRecalibrator`` each level by
itself. Takes about half a minute.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
import torch

from skuq import TorchRegressor
from skuq.calibration import QuantileRecalibrator, VarianceScaler
from skuq.metrics import (
    PITDisplay,
    PredictionBandDisplay,
    RegressionCalibrationDisplay,
    crps_scorer,
    nll_scorer,
    picp_scorer,
    prediction_interval_coverage,
    uncertainty_scorers,
)
from skuq.posteriors import DeepEnsemble

torch.set_num_threads(1)  # the networks are small

# %%
# Skewed noise
# ------------
# Most points lie just below the curve, and a few far above.


def make_data(n_samples, seed):
    random = np.random.default_rng(seed)
    x = random.uniform(-3, 3, n_samples)
    return x[:, None], np.sin(2 * x) + 0.3 * (random.gamma(1.0, size=n_samples) - 1)


X, y = make_data(300, 0)
X_test, y_test = make_data(2000, 1)

# %%
# Two calibrators
# ---------------
# With ``cv=4`` no rows are set apart: networks of four folds judge the rows that they have not
# seen.

network = TorchRegressor(
    posterior=DeepEnsemble(n_members=3), module__dropout=0.0, max_epochs=150, lr=0.01,
    random_state=0,
)  # fmt: skip
models = {
    "network": network.fit(X, y),
    "variances": VarianceScaler(network, cv=4).fit(X, y),
    "quantiles": QuantileRecalibrator(network, cv=4).fit(X, y),
}
print(f"deviations times {models['variances'].scale_:.3f}")

# %%
# The last three columns are the shares of new y in the central intervals of these levels. One
# factor cannot mend all levels of a distribution of the wrong shape.

scorers = uncertainty_scorers(nll=nll_scorer, crps=crps_scorer, picp=picp_scorer(0.9))
print(f"{'':12}{'NLL':>8}{'CRPS':>8}{'|gap|':>8}{'50 %':>8}{'90 %':>8}{'98 %':>8}")
for name, model in models.items():
    scores = scorers(model, X_test, y_test)
    held = [
        prediction_interval_coverage(y_test, model.predict_interval(X_test, level))
        for level in (0.5, 0.9, 0.98)
    ]
    columns = "".join(f"{value:8.3f}" for value in (*(-s for s in scores.values()), *held))
    print(f"{name:12}{columns}")

# %%
# How to read the pictures
# ------------------------
# In the middle, a calibrated model follows the diagonal. On the right, y is put through the
# predicted distribution function: if that is right, the histogram is flat.

figure, axes = plt.subplots(1, 3, figsize=(14, 4.6), layout="constrained")
PredictionBandDisplay.from_estimator(models["quantiles"], X, y, name="quantiles", ax=axes[0])
for name, model in models.items():
    options = {"name": name}
    RegressionCalibrationDisplay.from_estimator(model, X_test, y_test, ax=axes[1], **options)
    PITDisplay.from_estimator(model, X_test, y_test, ax=axes[2], **options)
figure.set_label(
    "Left: a curve with bands of recalibrated quantiles, wider above than below. Middle: observed "
    "against predicted levels, nearest to the diagonal for quantiles. Right: histograms of F(y), "
    "flattest for quantiles."
)

if sys.argv[1:]:
    figure.savefig(sys.argv[1], dpi=90)
else:
    plt.show()
