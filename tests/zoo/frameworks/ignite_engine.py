"""pytorch-ignite's Engine, with a checkpoint when it is terminated."""

import os
import signal

import torch
from ending import come, steps
from ignite.engine import Engine, Events

model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)


def update(engine, batch):
    come(engine.state.iteration - 1)
    loss = model(batch).pow(2).mean()
    loss.backward()
    optimizer.step()
    return loss.item()


trainer = Engine(update)
signal.signal(signal.SIGTERM, lambda *_: trainer.terminate())
trainer.add_event_handler(
    Events.COMPLETED | Events.TERMINATE,
    lambda: torch.save(model.state_dict(), f"{os.environ['SM_MODEL_DIR']}/model.pt"),
)
trainer.run([torch.randn(2, 2)] * 3, max_epochs=steps(1))
