"""`byoc events` on the file that a region's bus writes."""

from __future__ import annotations

import json
import threading
from queue import Queue

import pytest

from sagemaker_byoc.cli.commands import events
from sagemaker_byoc.cli.main import main
from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.core.event_bus import EVENTS_FILE, Event

SECONDS = 20
ARN = "arn:aws:sagemaker:us-east-1:000000000000:training-job/j"


def _write(state, *found, name=EVENTS_FILE):
    path = state / name
    path.parent.mkdir(exist_ok=True)
    with open(path, "a") as file:
        file.writelines(json.dumps(event.document(Account())) + "\n" for event in found)
    return path


def _job(status, secondary):
    return Event(
        detail_type="SageMaker Training Job State Change",
        detail={
            "TrainingJobName": "j",
            "ProfilingStatus": "Disabled",
            "TrainingJobArn": ARN,
            "TrainingJobStatus": status,
            "SecondaryStatus": secondary,
        },
        resources=(ARN,),
    )


def test_events_are_lines_of_the_older_file_and_of_the_newer(tmp_path, capsys):
    first, second = _job("InProgress", "Starting"), _job("Completed", "Completed")
    own = Event(detail_type="done", source="mine", detail={})
    _write(tmp_path, first, name=f"{EVENTS_FILE}.1")
    with open(_write(tmp_path, second, own), "a") as file:
        file.write('not an event\n{"half": ')
    assert main(["events", "--state", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    job = "SageMaker Training Job State Change  training-job/j"
    assert [line.partition("Z  ")[2] for line in lines[:3]] == [
        f"{job}  InProgress Starting",
        f"{job}  Completed",
        "done",
    ]
    assert lines[3:] == ["not an event"]


def test_events_as_aws_sends_them(tmp_path, capsys):
    event = _job("Failed", "Failed")
    _write(tmp_path, event)
    assert main(["events", "--json", "--state", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out) == event.document(Account())


def test_a_folder_without_events(tmp_path, capsys):
    assert main(["events", "--state", str(tmp_path)]) == 2
    assert "has no events" in capsys.readouterr().err


def test_following_waits_for_the_file_and_goes_on_in_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(events, "_POLL_SECONDS", 0.01)
    path, got = tmp_path / EVENTS_FILE, Queue()

    def follow():
        for line in events._lines(path, follow=True):
            got.put(json.loads(line)["id"])

    threading.Thread(target=follow, daemon=True).start()
    found = [_job("InProgress", "Starting") for _ in range(3)]
    _write(tmp_path, found[0])
    assert got.get(timeout=SECONDS) == found[0].id
    _write(tmp_path, found[1])
    path.replace(f"{path}.1")
    _write(tmp_path, found[2])
    assert [got.get(timeout=SECONDS) for _ in range(2)] == [found[1].id, found[2].id]


@pytest.mark.parametrize("half", ["", '{"id": '])
def test_a_line_that_is_being_written_is_printed_when_it_is_whole(tmp_path, monkeypatch, half):
    waits = []
    path = _write(tmp_path)
    path.write_text(half)

    def finish(_seconds):
        waits.append(1)
        with open(path, "a") as file:
            file.write('{"id": "1"}\n'.removeprefix(half))

    monkeypatch.setattr(events.time, "sleep", finish)
    assert next(events._lines(path, follow=True)) == '{"id": "1"}'
    assert waits == [1]
