"""A check whose trials fail: everything else it found is in the report."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest
from tests.unit.images import made
from tests.unit.images.engine import make_engine

from sagemaker_byoc.host import owners
from sagemaker_byoc.images.check import check as check_module
from sagemaker_byoc.images.check.check import CheckRequest, check
from sagemaker_byoc.images.check.findings import as_json, as_junit, as_text
from sagemaker_byoc.images.check.trials import training
from sagemaker_byoc.images.check.trials.container import Deadline, Trials
from sagemaker_byoc.images.check.trials.training import Job, TrainingPlan

pytestmark = pytest.mark.slow  # each runs the docker client of the tests many times

GOOD = {"Entrypoint": ["/train"]}
BAD = {"Entrypoint": ["/nothing"]}
BOTH = frozenset({"train", "serve"})


@pytest.fixture
def engine(tmp_path, monkeypatch):
    return make_engine(tmp_path, monkeypatch, {"train": made.elf()}, **GOOD)


def run(roles=BOTH, **more):
    said = []
    request = CheckRequest(image="any:1", roles=frozenset(roles), **more)
    return check(request, said.append, said.append), said


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("create", 'Conflict. The container name "/x" is already in use'),
        ("cp", "write /var/lib/docker: no space left on device"),
        ("wait", "error waiting for container: unexpected EOF"),
        ("inspect", "i/o timeout"),
        ("network-create", "could not find an available IPv4 address pool"),
        ("ps", "permission denied"),
    ],
)
def test_no_failure_of_the_engine_loses_the_report(engine, verb, words):
    engine.fails(verb, words)
    found, _ = run({"train"})
    assert any(words in sentence for sentence in found.unjudged)
    assert found.exit_code == 4
    assert json.loads(as_json(found))["unjudged"] == list(found.unjudged)
    assert words in as_text(found)


def test_what_was_found_counts_more_than_what_was_not_judged(tmp_path, monkeypatch):
    engine = make_engine(tmp_path, monkeypatch, {"train": made.elf()}, **BAD)
    engine.fails("create", "no space left on device")
    found, said = run()
    assert "IMG009" in {finding.id for finding in found.findings}
    assert found.exit_code == 1
    findings = [index for index, thing in enumerate(said) if not isinstance(thing, str)]
    trials = [index for index, thing in enumerate(said) if "at most" in str(thing)]
    assert max(findings) < min(trials), "static findings are shown before the first trial"


def test_an_engine_that_is_gone_is_asked_once(engine):
    engine.fails("create", "Cannot connect to the Docker daemon at unix:///var/run/docker.sock")
    found, _ = run()
    assert len(engine.calls("create")) == 1
    assert [sentence.partition(":")[0] for sentence in found.unjudged] == [
        "a training job",
        "an endpoint, until its /ping is 200",
    ]


@pytest.mark.parametrize("error", [KeyError("8080/tcp"), OSError(28, "No space"), ValueError("x")])
def test_no_defect_of_a_trial_loses_the_report(engine, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(training, "_several", fail)
    found, _ = run({"train"})
    assert [sentence for sentence in found.unjudged if type(error).__name__ in sentence]
    assert "TRN005" in {finding.id for finding in found.findings}, "the other trials were judged"


def test_no_defect_of_a_rule_loses_the_others(engine, monkeypatch):
    def fail(_):
        raise KeyError("x")

    first, *rest = check_module.TRAINING
    broken = type(first)(
        **{name: getattr(first, name) for name in first.__slots__} | {"check": fail}
    )
    monkeypatch.setattr(check_module, "TRAINING", (broken, *rest))
    found, _ = run({"train"})
    assert found.unjudged == (f"rule {first.id}: KeyError: 'x'",)
    assert "TRN005" in {finding.id for finding in found.findings}


def test_what_is_not_judged_is_an_error_of_junit(engine):
    engine.fails("create", "no room")
    found, _ = run({"train"})
    suite = ET.fromstring(as_junit(found))
    assert suite.get("errors") == "1"
    assert [case.get("name") for case in suite if case.find("error") is not None] == [
        "a training job"
    ]


def test_each_trial_says_its_bound(engine):
    _, said = run({"train"}, train_seconds=50.0)
    trials = [line for line in said if isinstance(line, str) and "training job" in line]
    assert [line.partition(":")[0] for line in trials] == [
        "a training job",
        "a training job with broken hyperparameters",
        "a training job that is stopped",
        "a training job on two hosts",
    ]
    assert all("at most" in line for line in trials)
    assert "at most 50 s, and 120 s more to end after SIGTERM" in trials[0]


def test_a_job_that_runs_on_is_the_one_that_is_stopped(engine, monkeypatch):
    """It costs the announced time once: no other job is begun."""
    engine.runs_on()
    monkeypatch.setattr(training, "_GRACE", 0.2)
    found, _ = run({"train"}, train_seconds=1.2)
    assert len(engine.calls("create")) == 1
    assert engine.calls("kill")[0].startswith("kill --signal TERM byoc-check-")
    assert "TRN007" in {finding.id for finding in found.findings}
    (note,) = found.notes
    assert "the job still ran after 1 s" in note


def test_two_hosts_get_the_time_that_a_slow_job_needs():
    """Two hosts share this machine: with less than three times the time no host is judged."""
    trials = Trials(lambda _: None)
    jobs = training._Run(TrainingPlan(image="any:1"), trials, Deadline(100.0))
    assert jobs.several(Job(exit_code=0, seconds=50.0)) == {}
    (note,) = trials.notes
    assert note.startswith("a training job on two hosts: one alone took 50 s")


def test_only_what_the_dead_left_is_swept(engine):
    dead = owners.me().split("/")
    dead[1] = str(int(dead[1]) - 1)  # the same process id, begun earlier
    other = [*owners.me().split("/")[:3], "another-boot"]
    engine.containers(
        ("dead", "/".join(dead)), ("mine", owners.me()), ("other", "/".join(other)), ("old", "")
    )
    run({"train"})
    removed = [call.split()[-1] for call in engine.calls("rm")]
    assert "dead" in removed
    assert not {"mine", "other", "old"} & {*removed}


def test_what_is_left_is_removed_when_the_check_is_interrupted(engine, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    engine.containers(("left", owners.me()))
    monkeypatch.setattr(training, "_result", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run({"train"})
    assert engine.calls("rm")[-1].split()[-1] == "left"


def test_a_full_disk_loses_no_report(engine, monkeypatch):
    """The temporary folders of the trials can't be made."""

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkdtemp", full)
    found, _ = run()
    assert len(found.unjudged) == 2
    assert all("No space left" in sentence for sentence in found.unjudged)
    assert not engine.calls("create")
