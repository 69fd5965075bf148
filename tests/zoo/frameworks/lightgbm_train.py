"""lightgbm with a callback for each round."""

import os

import lightgbm
import numpy as np
from ending import come, steps

data = lightgbm.Dataset(np.random.rand(64, 3), np.random.rand(64), params={"verbose": -1})
booster = lightgbm.train(
    {"verbose": -1, "num_threads": 1, "num_leaves": 2},
    data,
    steps(3),
    callbacks=[lambda environment: come(environment.iteration)],
)
booster.save_model(f"{os.environ['SM_MODEL_DIR']}/model.txt")
