"""lightgbm with a callback for each round; KeyboardInterrupt is how it is stopped from outside."""

import os

import lightgbm
import numpy
from ending import come, steps

data = lightgbm.Dataset(numpy.random.rand(64, 3), numpy.random.rand(64), params={"verbose": -1})
booster = lightgbm.train(
    {"verbose": -1, "num_threads": 1, "num_leaves": 2},
    data,
    steps(3),
    callbacks=[lambda environment: come(environment.iteration)],
)
booster.save_model(os.path.join(os.environ["SM_MODEL_DIR"], "model.txt"))
