"""transformers' Trainer on a tiny BERT; a callback has it save a checkpoint after SIGTERM."""

import os
import signal

import torch
from ending import come, steps
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)


class Ending(TrainerCallback):
    """Leave the loop after SIGTERM: every rank after the same step."""

    stopped = False

    def on_train_begin(self, args, state, control, **_):
        signal.signal(signal.SIGTERM, lambda *_: setattr(Ending, "stopped", True))

    def on_step_end(self, args, state, control, **_):
        come(state.global_step - 1)
        stop = torch.tensor(Ending.stopped)
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(stop, torch.distributed.ReduceOp.MAX)
        if stop:  # or what the Trainer itself decided for this step stands
            control.should_save = control.should_training_stop = True


config = BertConfig(
    vocab_size=32, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
)
rows = [{"input_ids": torch.randint(32, (4,)), "labels": torch.tensor(i % 2)} for i in range(8)]
arguments = TrainingArguments(
    output_dir=os.environ["SM_MODEL_DIR"],
    max_steps=steps(3),
    per_device_train_batch_size=2,
    report_to=[],
    use_cpu=True,
    disable_tqdm=True,
)
trainer = Trainer(
    BertForSequenceClassification(config), arguments, train_dataset=rows, callbacks=[Ending()]
)
trainer.train()
trainer.save_model()
