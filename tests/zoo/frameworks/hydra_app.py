"""A hydra application that composes its configuration and trains."""

from dataclasses import dataclass

import hydra
from ending import train
from hydra.core.config_store import ConfigStore


@dataclass
class Config:
    lr: float = 0.1


ConfigStore.instance().store(name="config", node=Config)


@hydra.main(version_base=None, config_name="config")
def main(config):
    train(config.lr)


main()
