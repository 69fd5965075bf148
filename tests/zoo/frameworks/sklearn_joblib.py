"""scikit-learn fits in joblib's processes; an error comes back from one of them."""

import os

import joblib
import numpy
from ending import come, steps
from sklearn.linear_model import LinearRegression


def fit(step):
    come(step)
    return LinearRegression().fit(numpy.random.rand(8, 2), numpy.random.rand(8))


models = []
for first in range(0, steps(2), 2):
    models = joblib.Parallel(n_jobs=2)(joblib.delayed(fit)(step) for step in (0, 1))
joblib.dump(models, os.path.join(os.environ["SM_MODEL_DIR"], "model.joblib"))
