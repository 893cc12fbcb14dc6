"""
MLflow: a served model that also says how sure it is
====================================================

`mlflow.pyfunc` wraps a saved file of skuq. Its signature names each output, so that a client gets
probabilities and both parts of the uncertainty under their names. This needs ``pip install
mlflow-skinny pandas``, and no server: the model is saved to a folder and loaded from there.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skuq
from skuq import TorchClassifier
from skuq.calibration import TemperatureScaler

# %%
# The model that we want to serve: a scaler, an ensemble, and one temperature.

X, y = load_iris(return_X_y=True, as_frame=True)
names = load_iris().target_names
network = TorchClassifier(max_epochs=30, lr=0.01, random_state=0)
model = TemperatureScaler(make_pipeline(StandardScaler(), network), cv=3).fit(X, names[y])

# %%
# The wrapper loads a file that holds no code and no rows of the training data, and names its
# outputs.


class Uncertain(mlflow.pyfunc.PythonModel):
    """Probabilities and uncertainties of each row."""

    def load_context(self, context: Any) -> None:
        """Load the file."""
        self.model = skuq.load(context.artifacts["skuq"])

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Predict for a table."""
        proba = self.model.predict_proba(model_input)
        found = pd.DataFrame(proba, columns=[f"probability_{name}" for name in self.model.classes_])
        parts = skuq.predict_uncertainty(self.model, model_input, kind="all")
        for kind, values in zip(("total", "aleatoric", "epistemic"), parts):
            found[f"{kind}_uncertainty"] = values
        found.insert(0, "prediction", self.model.predict(model_input))
        return found


# %%
# The signature comes from a few rows of inputs and outputs. `artifacts` names the file.

folder = Path(sys.argv[1]) if sys.argv[1:] else Path(tempfile.mkdtemp())
skuq.save(model, folder / "model.skuq", keep_rows=False)
wrapper = Uncertain()
wrapper.model = model
signature = mlflow.models.infer_signature(X, wrapper.predict(None, X[:5]))
del wrapper.model  # the folder holds the file, and no pickle of the model
mlflow.pyfunc.save_model(
    folder / "served",
    python_model=wrapper,
    artifacts={"skuq": str(folder / "model.skuq")},
    signature=signature,
    pip_requirements=[f"skuq=={skuq.__version__}", "safetensors"],
)
print(signature.outputs)

# %%
# Loaded again, as a server would do it.

served = mlflow.pyfunc.load_model(str(folder / "served"))
answer = served.predict(X[::50])
print(answer.round(3).to_string())
assert (answer["total_uncertainty"].to_numpy() == model.predict_uncertainty(X[::50])).all()
