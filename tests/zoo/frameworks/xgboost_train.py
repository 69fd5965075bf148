"""xgboost with a callback for each round, which stops after SIGTERM; the model is saved."""

import os
import signal

import numpy as np
import xgboost
from ending import come, steps


class Ending(xgboost.callback.TrainingCallback):
    stopped = False

    def after_iteration(self, model, epoch, evals_log):
        come(epoch)
        return Ending.stopped


signal.signal(signal.SIGTERM, lambda *_: setattr(Ending, "stopped", True))
data = xgboost.DMatrix(np.random.rand(32, 3), label=np.random.rand(32))
booster = xgboost.train(
    {"max_depth": 2, "nthread": 1}, data, steps(3), callbacks=[Ending()], verbose_eval=False
)
booster.save_model(f"{os.environ['SM_MODEL_DIR']}/model.json")
