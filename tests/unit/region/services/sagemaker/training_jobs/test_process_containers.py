"""The process engine's containers: nothing of them is left, whoever ended them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tests.support.waiting import wait_until
from tests.unit.region.services.sagemaker.training_jobs.conftest import (
    BUCKET,
    TrainingRegion,
)

from sagemaker_byoc.contract.errors import MachineError
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.region.engines import process
from sagemaker_byoc.region.engines.container import LONGEST_LINE, ContainerSpec, Network
from sagemaker_byoc.region.engines.process import ProcessEngine, host_addresses


@pytest.fixture(params=["namespace", "moved"])
def any_engine(request):
    """Both ways in which the process engine shows a tree."""
    if request.param == "moved":
        return ProcessEngine(())
    return request.getfixturevalue("engine")


def spec(tmp_path, script, **more):
    tree = Tree(tmp_path / "ml")
    tree.root.mkdir()
    command = ("/bin/sh", "-c", script)
    return ContainerSpec(
        name="c", argument="train", tree=tree, environment={}, entrypoint=command, **more
    )


def test_children_in_sessions_of_their_own_go_too(any_engine, tmp_path):
    """No process group holds them; the tree that they live in does."""
    wanted = spec(tmp_path, "setsid sh -c 'sleep 600' & echo started; wait")
    container = any_engine.start(wanted)
    assert next(container.lines()) == "started"
    wait_until(lambda: len([*process.find(wanted.tree)]) >= 2, "both processes")
    container.close()
    assert not [*process.find(wanted.tree)]


def test_a_container_ends_with_its_first_process(any_engine, tmp_path):
    """As in a PID namespace; a child that holds the log open does not hold up its end."""
    wanted = spec(tmp_path, "setsid sleep 600 & echo last; exit 3")
    container = any_engine.start(wanted)
    assert [*container.lines()] == ["last"]
    assert container.wait() == 3
    assert not [*process.find(wanted.tree)]
    container.close()


@pytest.mark.parametrize("flags", ["0", str(0x200000)])
def test_a_process_that_is_being_executed_is_looked_at_again(tmp_path, monkeypatch, flags):
    """Its variables can't be read in the middle of execve(2); a kernel thread never has any."""
    (tmp_path / "environ").write_bytes(b"")
    fields = ["S", *["1"] * 5, flags, *["1"] * 41, "0", "0"]  # proc_pid_stat(5), from the third
    (tmp_path / "stat").write_text(f"7 (a) b) {' '.join(fields)}\n")
    executed = (tmp_path / "environ").write_bytes
    monkeypatch.setattr(process.time, "sleep", lambda _: executed(b"A=1\0B=2\0"))
    expected = [b"A=1", b"B=2", b""] if flags == "0" else [b""]
    assert process._environ(tmp_path) == expected


def test_sweep_finds_what_a_killed_parent_left(any_engine, tmp_path):
    """Without a pid file: by the tree."""
    wanted = spec(tmp_path, "echo started; sleep 600")
    container = any_engine.start(wanted)
    next(container.lines())
    assert any_engine.sweep({}, [Tree(tmp_path / "other")]) == 0
    assert any_engine.sweep({}, [wanted.tree]) >= 1
    assert container.wait() == 128 + signal.SIGKILL
    container.close()


def test_the_machines_own_opt_ml_is_nobodys_tree(tmp_path, monkeypatch):
    """Every process sees it there; none of them lives in it for that."""
    monkeypatch.setattr(process, "DEFAULT_ROOT", tmp_path)
    assert not [*process.find(Tree(tmp_path))]


def test_addresses_are_loopback_and_distinct():
    """For as many hosts as a job may have."""
    hosts = tuple(f"algo-{n}" for n in range(1, 65))
    for name in ("a", "b", "another"):
        addresses = host_addresses(Network(name=name, hosts=hosts))
        assert len({*addresses.values()}) == 64
        assert all(address.startswith("127.") for address in addresses.values())
        assert "127.0.0.1" not in addresses.values()


@pytest.mark.parametrize("isolated", [False, True])
def test_what_loopback_cannot_do_is_refused(engine, isolated):
    """Several hosts without namespaces, or isolated from all but each other."""
    network = Network(name="n", hosts=("algo-1", "algo-2"), isolated=isolated)
    refusing = engine if isolated else ProcessEngine(())
    with pytest.raises(MachineError, match="--engine docker"):
        refusing.open_network(network)


REGION = """
import sys, time
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.unit.region.services.sagemaker.training_jobs.conftest import TrainingRegion, make_engine
scratch = Path({state!r}).with_name("scratch"); scratch.mkdir()
region = TrainingRegion(Path({state!r}), make_engine(scratch))
region.create("setsid sleep 600 & echo started; wait", Tags=[{{"Key": "a", "Value": "b"}}])
region.run("echo kept > /opt/ml/model/m", "job-2")
region.wait_for_line("started")
print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_a_killed_region_starts_again(engine, tmp_path):
    """Its running job has failed, none of its processes is left, all else is as it was."""
    state = tmp_path / "state"
    root = str(Path(__file__).parents[6])
    program = textwrap.dedent(REGION.format(root=root, state=str(state)))
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as region:
        try:
            assert region.stdout.readline() == b"ready\n"
        finally:
            region.kill()
    tree = Tree(state / "work/training-jobs/job-1/algo-1/ml")
    assert [*process.find(tree)]
    region = TrainingRegion(state, engine)
    try:
        assert not [*process.find(tree)]
        lost = region.describe("job-1")
        assert lost["TrainingJobStatus"] == lost["SecondaryStatus"] == "Failed"
        assert lost["FailureReason"].startswith("InternalServerError: ")
        assert lost["SecondaryStatusTransitions"][-1]["EndTime"]
        assert region.describe("job-2")["TrainingJobStatus"] == "Completed"
        assert region.objects("out/") == ["out/job-2/output/model.tar.gz"]
        assert region.call("ListTags", ResourceArn=lost["TrainingJobArn"])["Tags"]
        assert not (state / "work/training-jobs").exists()
        assert region.run("true", "job-3")["TrainingJobStatus"] == "Completed"
    finally:
        region.close()


def test_records_can_be_read(region):
    """JSON on disk, one file a job."""
    region.run("true")
    (record,) = (region.state / "sagemaker/training-jobs").iterdir()
    assert record.name == "job-1.json"
    document = json.loads(record.read_text())
    assert document["OutputDataConfig"]["S3OutputPath"] == f"s3://{BUCKET}/out"


def test_a_line_without_an_end_comes_in_pieces(engine, tmp_path):
    """A program that prints a gigabyte in one line must not fill the region's memory."""
    wanted = spec(
        tmp_path, f"head -c {2 * LONGEST_LINE + 5} /dev/zero | tr '\\0' x; echo; echo end"
    )
    container = engine.start(wanted)
    lines = [*container.lines()]
    container.close()
    assert [len(line) for line in lines] == [LONGEST_LINE, LONGEST_LINE, 5, 3]
