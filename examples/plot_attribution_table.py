"""
Which columns make a forecast unsure?
=====================================

An ensemble forecasts the progress of diabetes from a table with named columns. Attribution says
which columns make it uncertain, for one patient and on average. Takes about ten seconds.
"""

# %%
# One column holds words. A ColumnTransformer makes two inputs of it and standardises the others,
# inside of one Pipeline with the network.

import sys

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import skuq
from skuq.attribution import AttributionDisplay, attribute_uncertainty, plot_global

torch.set_num_threads(1)  # the networks are small
X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
X["sex"] = X["sex"].map({1: "one", 2: "the other"})
X = X.rename(
    columns={
        "bp": "blood pressure", "s1": "cholesterol", "s2": "LDL", "s3": "HDL",
        "s4": "cholesterol / HDL", "s5": "log triglycerides", "s6": "glucose",
    }
)  # fmt: skip
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
numbers = [name for name in X if name != "sex"]
model = make_pipeline(
    make_column_transformer((OneHotEncoder(), ["sex"]), (StandardScaler(), numbers)),
    skuq.TorchRegressor(random_state=0),
)
model.fit(X_train, y_train)
print(f"R² {model.score(X_test, y_test):.2f}")

# %%
# Integrated gradients divide the difference between the variance of a patient and that of usual
# values, the medians of the training set, among the columns. One-hot inputs count for their column.

found = attribute_uncertainty(
    model, X_test, kind="aleatoric", method="integrated_gradients", background=X_train
)
unsure = int(np.argmax(found.uncertainty))
print(found.frame().iloc[unsure].sort_values(key=abs, ascending=False).head(3).round(1))
print(f"sum of the values {found.values[unsure].sum():.0f}, U {found.uncertainty[unsure]:.0f}")

# %%
# Left: the patient whose forecast is least certain. Right: means over all test patients; the lines
# hold the middle half of them.

figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.2), layout="constrained")
AttributionDisplay.from_attribution(
    found, [unsure], names=["the least certain forecast"], axes=[[left]]
)
plot_global(found, axes=[right])
right.set_title(f"mean over {len(X_test)} patients")

figure.set_label(
    "Left: bars for one patient, one for each column, of the part that it has in the aleatoric "
    "uncertainty of the forecast. Right: the mean parts over 111 patients, with their "
    "deviations."
)
if sys.argv[1:]:
    figure.savefig(sys.argv[1], dpi=110)
plt.show()
