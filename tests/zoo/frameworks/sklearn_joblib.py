"""scikit-learn fits in joblib's processes; an error comes back from one of them."""

import os

import joblib
import numpy as np
from ending import come, steps
from sklearn.linear_model import LinearRegression


def fit(step):
    come(step)
    return LinearRegression().fit(np.random.rand(8, 2), np.random.rand(8))


models = []
for _ in range(steps(1)):
    models = joblib.Parallel(n_jobs=2)(joblib.delayed(fit)(step) for step in (0, 1))
joblib.dump(models, f"{os.environ['SM_MODEL_DIR']}/model.joblib")
