"""Lightning's Trainer, which finds ranks by torchrun's variables; a checkpoint after SIGTERM."""

import os

import lightning
import torch
from ending import HOW, come, steps
from lightning.pytorch.callbacks import OnExceptionCheckpoint
from torch.utils.data import DataLoader, TensorDataset


class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch, number):
        come(self.global_step)
        return self.layer(batch[0]).pow(2).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


trainer = lightning.Trainer(
    accelerator="cpu",
    devices=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
    max_steps=steps(3),
    max_epochs=-1,
    logger=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    callbacks=[OnExceptionCheckpoint(os.environ["SM_MODEL_DIR"])] if HOW == "wait" else None,
    default_root_dir=os.environ["SM_MODEL_DIR"],
)
trainer.fit(Module(), DataLoader(TensorDataset(torch.randn(8, 2)), 2))
trainer.save_checkpoint(f"{os.environ['SM_MODEL_DIR']}/last.ckpt")
