import errno
import os
import pickle
import random
import shutil
import signal
import subprocess
import threading

import pytest
import torch

from sagemaker_byoc.training.library.checkpoint import (
    Checkpointer,
    CheckpointError,
    storage,
)
from sagemaker_byoc.training.library.ranks import StopFlag

pytestmark = pytest.mark.slow  # real processes


class Reader:
    """The least that `data` may be."""

    def __init__(self, at=0):
        self.at = at

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]


class Program:
    """A small training program with everything that can be saved."""

    def __init__(self, folder, width=8, **options):
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.Linear(width, 1))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.1)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 2)
        self.data = Reader()
        self.checkpointer = Checkpointer(
            model=self.model,
            optimizer=self.optimizer,
            scheduler=self.scheduler,
            data=self.data,
            folder=folder,
            **options,
        )

    def train(self, step):
        """One step; its loss."""
        self.data.at += 1
        loss = self.model(torch.randn(3, 4) * self.data.at).square().mean()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()
        return loss.item()

    def run(self, total):
        return [self.train(step) for step in self.checkpointer.steps(total)]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints"


def test_a_first_start_begins_at_step_1(folder):
    """Nothing to resume from is no error, and all steps are done."""
    assert len(Program(folder).run(3)) == 3
    assert storage.steps_in(folder) == [3]


def test_a_resumed_run_is_bit_equal_to_one_in_one_piece(folder, tmp_path):
    """Weights, optimizer, schedule, data position and random numbers all come back."""
    whole = Program(tmp_path / "whole").run(9)
    parts = Program(folder).run(4) + Program(folder).run(9)
    assert parts == whole


def test_all_kinds_of_state_come_back(folder):
    """Each of Python's, numpy's and torch's random states, user values and further parts."""
    numpy = pytest.importorskip("numpy")
    other = Reader(3)
    saved = Program(folder, others={"ema": other})
    saved.checkpointer.user["best"] = 0.25
    saved.checkpointer.save(1)
    saved.checkpointer.close()
    expected = random.random(), numpy.random.rand(), torch.rand(1).item()
    other.at = 0
    resumed = Program(folder, others={"ema": other})
    assert resumed.checkpointer.resume() == 1
    assert resumed.checkpointer.user == {"best": 0.25}
    assert other.at == 3
    assert (random.random(), numpy.random.rand(), torch.rand(1).item()) == expected
    resumed.checkpointer.close()


def test_what_is_saved_is_the_state_of_the_step(folder):
    """Steps taken while the writer is at work do not reach into the snapshot."""
    program = Program(folder)
    program.train(1)
    before = [parameter.detach().clone() for parameter in program.model.parameters()]
    program.checkpointer.save(1)
    program.train(2)
    program.checkpointer.close()
    again = Program(folder)
    again.checkpointer.resume()
    assert all(map(torch.equal, before, again.model.parameters()))
    again.checkpointer.close()


def test_the_folder_is_sagemakers_unless_given(tmp_path, monkeypatch):
    """SAGEMAKER_BASE_DIR moves it with the rest of the tree."""
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    Program(None).run(1)
    assert storage.steps_in(tmp_path / "checkpoints") == [1]


def test_old_checkpoints_are_deleted_new_ones_kept(folder):
    """`keep` of them are left, each valid."""
    Program(folder, every_steps=1, keep=3).run(6)
    assert list(storage.valid_markers(folder)) == [6, 5, 4]


def test_at_no_time_is_there_no_valid_checkpoint(folder, monkeypatch):
    """Whenever something is deleted, a newer complete one is there, also with keep=1."""
    seen = []
    delete = storage.delete

    def watch(path):
        delete(path)
        if path.name.startswith("step-") and "incomplete" not in path.name:
            seen.append(len(storage.valid_markers(folder)))

    monkeypatch.setattr(storage, "delete", watch)
    Program(folder, every_steps=1, keep=1).run(5)
    assert [count for count in seen[1:] if count < 1] == []
    assert list(storage.valid_markers(folder)) == [5]


def cut(folder):
    file = next(folder.glob("*.distcp"))
    os.truncate(file, file.stat().st_size - 1)


def flip(folder):
    file = next(folder.glob("*.distcp"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    "spoil", [cut, flip, shutil.rmtree, lambda folder: (folder / "COMPLETE").unlink()]
)
def test_a_damaged_newest_checkpoint_falls_back(folder, spoil, tmp_path):
    """Truncated, changed, missing or unfinished: the older one is taken, and training goes on."""
    Program(folder, every_steps=2).run(4)
    spoil(folder / "step-4")
    program = Program(folder, every_steps=2)
    assert program.run(6) == Program(tmp_path / "whole").run(6)[2:]
    assert list(storage.valid_markers(folder)) == [6, 4]


def test_only_damaged_checkpoints_mean_a_start_from_0_with_a_warning(folder, caplog):
    """A run that loses everything says so."""
    Program(folder).run(2)
    cut(folder / "step-2")
    program = Program(folder)
    assert program.checkpointer.resume() == 0
    assert "starting at step 0" in caplog.text
    program.checkpointer.close()


def test_a_checkpoint_of_another_model_is_an_error_and_no_fallback(folder):
    """Training from scratch in silence would be worse."""
    Program(folder).run(2)
    program = Program(folder, width=9)
    with pytest.raises(CheckpointError, match="does not fit"):
        program.checkpointer.resume()
    program.checkpointer.close()


def fail(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_the_older_checkpoint_and_says_so(folder, monkeypatch):
    """The error comes at the next call, names the cause and what is left, and leaves no litter."""
    program = Program(folder)
    program.checkpointer.save(1)
    program.checkpointer.wait()
    monkeypatch.setattr(storage._Summed, "write", fail)
    program.checkpointer.save(2)
    with pytest.raises(CheckpointError, match=r"No space left.*step 1 is the newest"):
        program.checkpointer.wait()
    assert [path.name for path in folder.iterdir()] == ["step-1"]
    assert list(storage.valid_markers(folder)) == [1]
    program.checkpointer.close()


@pytest.fixture
def small_disk(tmp_path):
    """3 MB of real file system."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_really_full_is_named(small_disk):
    """The kernel's own error, through torch's archive writer, is still the one that is told."""
    program = Program(small_disk, width=9000, every_steps=1, keep=20)  # 0.65 MB a checkpoint
    with pytest.raises(CheckpointError, match=r"No space left.*is the newest that is complete"):
        program.run(20)
    again = Program(small_disk, width=9000)
    assert again.checkpointer.resume() >= 1
    again.checkpointer.close()


@pytest.mark.parametrize("call", ["step", "save", "close", "wait"])
def test_an_error_in_the_background_comes_out_at_the_next_call(folder, monkeypatch, call):
    """Whichever that is."""
    program = Program(folder)
    monkeypatch.setattr(storage, "write", fail)
    program.checkpointer.save(1)
    program.checkpointer._writing.exception()
    with pytest.raises(OSError, match="No space"):
        getattr(program.checkpointer, call)(*([2] if call in {"step", "save"} else []))
    program.checkpointer.close()


def test_a_save_that_is_due_waits_for_the_one_under_way(folder, monkeypatch):
    """Both are complete in the end, one after the other, and the wait is accounted for."""
    order = []
    go_on = threading.Event()
    write = storage.write

    def slow(root, snapshot, ranks):
        go_on.wait(10)
        write(root, snapshot, ranks)
        order.append(snapshot.step)

    monkeypatch.setattr(storage, "write", slow)
    program = Program(folder)
    program.checkpointer.save(1)
    assert program.checkpointer.blocked_ms > 0
    assert not order
    threading.Timer(0.05, go_on.set).start()
    program.checkpointer.save(2)
    assert order == [1]
    assert program.checkpointer.blocked_ms > 40
    program.checkpointer.close()
    assert order == [1, 2]


def test_state_that_could_not_be_read_back_is_refused_at_the_first_save(folder):
    """A loader that saves objects is found out at step 1, not after the reclaim."""
    program = Program(folder)
    program.data.at = threading.Event  # any class
    with pytest.raises(CheckpointError, match="more than tensors and plain values"):
        program.checkpointer.save(1)
    program.checkpointer.close()


def test_an_index_that_is_a_program_is_not_run(folder):
    """A foreign pickle in the checkpoint folder is refused."""
    folder.mkdir()

    class Evil:
        def __reduce__(self):
            return os.system, ("true",)

    (folder / ".metadata").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(pickle.UnpicklingError, match="system"):
        storage.Reader(folder).read_metadata()


def test_sigterm_saves_this_step_and_ends_the_loop(folder):
    """The loop is left after the step that was under way; what follows it runs."""
    program = Program(folder, stop=StopFlag(every=1))
    done = []
    for step in program.checkpointer.steps(100):
        program.train(step)
        done.append(step)
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
    program.checkpointer._stop.close()
    assert done == [1, 2, 3]
    assert program.checkpointer.stopped
    assert list(storage.valid_markers(folder)) == [3]


def test_a_step_that_was_just_saved_is_not_saved_again(folder, monkeypatch):
    """At a stop every second counts."""
    saved = []
    write = storage.write
    monkeypatch.setattr(
        storage, "write", lambda *given: (saved.append(given[1].step), write(*given))
    )
    program = Program(folder, stop=StopFlag(every=1))
    program.checkpointer.save(1)
    program.checkpointer._stop.set()
    assert program.checkpointer.step(1)
    program.checkpointer.close()
    program.checkpointer._stop.close()
    assert saved == [1]


def test_time_makes_a_save_due(folder):
    """every_seconds works beside, and without, every_steps."""
    program = Program(folder, every_seconds=0.0, stop=StopFlag(every=1, catch_sigterm=False))
    assert not program.checkpointer.step(1)
    program.checkpointer.wait()
    assert list(storage.valid_markers(folder)) == [1]
    program.checkpointer.close()


def test_leaving_the_loop_early_completes_the_save_under_way(folder):
    """`break` loses nothing that was begun, and gives SIGTERM back."""
    before = signal.getsignal(signal.SIGTERM)
    program = Program(folder, every_steps=2)
    for step in program.checkpointer.steps(10):
        program.train(step)
        if step == 3:
            break
    del step
    program.checkpointer.close()
    assert list(storage.valid_markers(folder)) == [2]
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_script_without_steps_still_dies_of_sigterm(folder):
    """Only who asks for the stop takes the signal over."""
    before = signal.getsignal(signal.SIGTERM)
    program = Program(folder)
    program.checkpointer.save(1)
    assert signal.getsignal(signal.SIGTERM) == before
    program.checkpointer.close()


@pytest.mark.parametrize("options", [{"keep": 0}, {"every_steps": 0}])
def test_impossible_settings_are_refused(folder, options):
    """Keeping none would be no checkpoint at all."""
    with pytest.raises(ValueError, match="at least 1"):
        Program(folder, **options)
