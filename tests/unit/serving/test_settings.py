"""Settings, and which modules the processes import."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from sagemaker_byoc.contract import http, machine
from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.serving.reader import without_effect
from sagemaker_byoc.serving.settings import MOST_WORKERS, Settings


def test_defaults():
    """An empty environment is the real-time contract."""
    settings = Settings.from_environ({"CUDA_VISIBLE_DEVICES": ""})
    assert (settings.port, settings.payload) == (http.PORT.value, http.PAYLOAD.value)
    assert settings.slots == min(machine.usable_cpus(), MOST_WORKERS)
    assert settings.is_automatic == (settings.slots > 1)
    assert settings.deadline == http.REALTIME_DEADLINE.value
    assert settings.gpu_of(0) is None


def test_travels():
    """Children get the same settings."""
    settings = replace(Settings.from_environ({}), gpus=("3", "5"))
    assert Settings.from_json(settings.to_json()) == settings
    assert [settings.gpu_of(slot) for slot in range(3)] == ["3", "5", "3"]


@pytest.mark.parametrize(
    ("environ", "slots", "may_fork"),
    [
        ({"SAGEMAKER_MODEL_SERVER_WORKERS": "3"}, 3, True),
        ({"MODEL_SERVER_WORKERS": "3", "BYOC_WORKER_START": "spawn"}, 3, False),
        ({"SAGEMAKER_MODEL_SERVER_WORKERS": "1"}, 1, False),
        ({"SAGEMAKER_MULTI_MODEL": "true"}, 1, False),
    ],
)
def test_workers(environ, slots, may_fork):
    """The variable decides; a multi-model endpoint has one process per model."""
    settings = Settings.from_environ({"CUDA_VISIBLE_DEVICES": "", **environ})
    assert (settings.slots, settings.may_fork) == (slots, may_fork)
    assert not settings.is_automatic
    assert settings.threads == max(1, settings.cpus // slots)
    assert not replace(settings, gpus=("0", "1")).may_fork


def test_batch():
    """A batch job may ask for no limit, and waits longer."""
    environ = {"SAGEMAKER_BATCH": "True", "SAGEMAKER_MAX_PAYLOAD_IN_MB": "0"}
    settings = Settings.from_environ(environ)
    assert (settings.payload, settings.deadline) == (None, http.BATCH_DEADLINE.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SAGEMAKER_MODEL_SERVER_WORKERS", "0"),
        ("MODEL_SERVER_WORKERS", "two"),
        ("SAGEMAKER_MODEL_SERVER_TIMEOUT", "nan"),
        *(
            ("SAGEMAKER_BIND_TO_PORT", port)
            for port in ("80.5", "80.0", "99999", "65536", "0", "-1", "abc", "8080 8081", "inf")
        ),
        ("SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS", "0"),
        ("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "text/*"),
        ("BYOC_CSV_HEADER", "perhaps"),
        ("BYOC_WORKER_START", "forkserver"),
    ],
)
def test_nonsense(name, value):
    """A value that means nothing is refused by name."""
    with pytest.raises(ContractError, match=name):
        Settings.from_environ({name: value})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("MMS_MAX_REQUEST_SIZE", "SAGEMAKER_MAX_PAYLOAD_IN_MB"),
        ("TS_MAX_REQUEST_SIZE", "SAGEMAKER_MAX_PAYLOAD_IN_MB"),
        ("SAGEMAKER_MAX_REQUEST_SIZE", "SAGEMAKER_MAX_PAYLOAD_IN_MB"),
        ("TS_MAX_RESPONSE_SIZE", "no limit"),
        ("MMS_DEFAULT_RESPONSE_TIMEOUT", "SAGEMAKER_MODEL_SERVER_TIMEOUT"),
        ("SAGEMAKER_TS_RESPONSE_TIMEOUT", "SAGEMAKER_MODEL_SERVER_TIMEOUT"),
        ("SAGEMAKER_RESPONSE_TIMEOUT", "SAGEMAKER_MODEL_SERVER_TIMEOUT"),
        ("GUNICORN_TIMEOUT", "SAGEMAKER_MODEL_SERVER_TIMEOUT"),
        ("TS_DEFAULT_WORKERS_PER_MODEL", "SAGEMAKER_MODEL_SERVER_WORKERS"),
        ("SAGEMAKER_NUM_MODEL_WORKERS", "SAGEMAKER_MODEL_SERVER_WORKERS"),
        ("SAGEMAKER_TS_BATCH_SIZE", "BYOC_BATCH"),
        ("TS_JOB_QUEUE_SIZE", "BYOC_QUEUE"),
        ("GUNICORN_CMD_ARGS", "gunicorn"),
        ("SAGEMAKER_MODEL_SERVER_TIMEOUT", ""),
        ("SAGEMAKER_MODEL_SERVER_WORKERS", ""),
        ("SAGEMAKER_STARTUP_TIMEOUT", ""),
        ("TS_AUTHKEY", ""),
        ("HTTP_TIMEOUT", ""),
    ],
)
def test_without_effect(name, words):
    """A limit that another server would heed is not ignored without a word."""
    lines = without_effect({name: "1"})
    assert len(lines) == bool(words)
    assert all(name in line and words in line for line in lines)
    assert without_effect({name: ""}) == []


def test_seconds_in_the_name_come_first():
    """The timeout that says its unit counts, if there are two."""
    both = {
        "SAGEMAKER_MODEL_SERVER_TIMEOUT": "5",
        "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS": "7",
    }
    assert Settings.from_environ(both).deadline == 7


def test_empty_port_is_the_default():
    """The SDK sends empty variables."""
    assert Settings.from_environ({"SAGEMAKER_BIND_TO_PORT": ""}).port == http.PORT.value


def test_transforms():
    """No more at once than the platform's product of requests and megabytes allows."""
    environ = {"SAGEMAKER_MODEL_SERVER_WORKERS": "40", "SAGEMAKER_MAX_PAYLOAD_IN_MB": "20"}
    assert Settings.from_environ(environ).concurrent_transforms(40) == 5
    assert Settings.from_environ({"BYOC_BATCH": "4"}).concurrent_transforms(1) == 8
    unlimited = Settings.from_environ(
        {"SAGEMAKER_BATCH": "true", "SAGEMAKER_MAX_PAYLOAD_IN_MB": "0"}
    )
    assert unlimited.transform_megabytes == 6


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("sagemaker_byoc.serving.serve", {"flask", "gunicorn", "orjson", "numpy", "torch"}),
        ("sagemaker_byoc.serving.front.gunicorn.application", {"numpy", "torch"}),
        ("sagemaker_byoc.serving.worker.loop", {"flask", "gunicorn", "torch"}),
    ],
)
def test_imports(module, forbidden):
    """Supervisor and front stay small, and a model without torch does not wait for it."""
    script = f"import sys, {module}; print(*sys.modules)"
    names = subprocess.run(
        [sys.executable, "-I", "-c", script], check=True, capture_output=True, text=True
    ).stdout.split()
    assert not forbidden & set(names)
