"""A hydra application that composes its configuration and trains."""

import os
from dataclasses import dataclass

import hydra
from ending import come, steps
from hydra.core.config_store import ConfigStore


@dataclass
class Config:
    lr: float = 0.1


ConfigStore.instance().store(name="config", node=Config)


@hydra.main(version_base=None, config_name="config")
def main(config):
    for step in range(steps(3)):
        come(step if step < 2 else 1)
    with open(os.path.join(os.environ["SM_MODEL_DIR"], "lr"), "w") as file:
        file.write(str(config.lr))


main()
