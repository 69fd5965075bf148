"""xgboost with a callback for each round; the model is saved after the stop that SIGTERM asks for."""

import os
import signal

import numpy
import xgboost
from ending import come, steps


class Ending(xgboost.callback.TrainingCallback):
    stopped = False

    def after_iteration(self, model, epoch, evals_log):
        come(epoch)
        return Ending.stopped


signal.signal(signal.SIGTERM, lambda *_: setattr(Ending, "stopped", True))
data = xgboost.DMatrix(numpy.random.rand(32, 3), label=numpy.random.rand(32))
booster = xgboost.train(
    {"max_depth": 2, "nthread": 1}, data, steps(3), callbacks=[Ending()], verbose_eval=False
)
booster.save_model(os.path.join(os.environ["SM_MODEL_DIR"], "model.json"))
