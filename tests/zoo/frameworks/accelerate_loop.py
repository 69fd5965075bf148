"""A loop with accelerate's Accelerator, started as a program or by `accelerate launch`."""

import os

import torch
from accelerate import Accelerator
from ending import come, steps

accelerator = Accelerator(cpu=True)
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
data = torch.utils.data.TensorDataset(torch.randn(8, 2))
model, optimizer, loader = accelerator.prepare(
    model, optimizer, torch.utils.data.DataLoader(data, 2)
)
for step in range(steps(3)):
    for (batch,) in loader:
        loss = model(batch).pow(2).mean()
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
    come(step)
accelerator.wait_for_everyone()
accelerator.save(accelerator.get_state_dict(model), f"{os.environ['SM_MODEL_DIR']}/model.pt")
accelerator.end_training()
