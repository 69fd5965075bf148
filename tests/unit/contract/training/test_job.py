"""The program's environment is the union of what the two launchers of AWS set."""

from __future__ import annotations

import json

import pytest

from sagemaker_byoc.contract.machine import Hardware
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.channels import Channel
from sagemaker_byoc.contract.training.cluster import Cluster
from sagemaker_byoc.contract.training.hyperparameters import Hyperparameters
from sagemaker_byoc.contract.training.job import (
    LONGEST_STRING,
    Command,
    Job,
    fit,
    training_environment,
)

# Dumped from sagemaker-training 5.1.4, and read in the SDK's v3 launcher (environment.py).
TOOLKIT = """
SM_HOSTS SM_CURRENT_HOST SM_CURRENT_INSTANCE_TYPE SM_CURRENT_INSTANCE_GROUP
SM_CURRENT_INSTANCE_GROUP_HOSTS SM_INSTANCE_GROUPS SM_INSTANCE_GROUPS_DICT
SM_DISTRIBUTION_INSTANCE_GROUPS SM_IS_HETERO SM_NETWORK_INTERFACE_NAME SM_RESOURCE_CONFIG
SM_NUM_CPUS SM_NUM_GPUS SM_NUM_NEURONS SM_INPUT_DIR SM_INPUT_CONFIG_DIR SM_OUTPUT_DIR
SM_OUTPUT_DATA_DIR SM_OUTPUT_INTERMEDIATE_DIR SM_MODEL_DIR SM_MODULE_DIR SM_CHANNELS
SM_INPUT_DATA_CONFIG SM_HPS SM_USER_ARGS SM_USER_ENTRY_POINT SM_MODULE_NAME SM_FRAMEWORK_MODULE
SM_FRAMEWORK_PARAMS SM_LOG_LEVEL SM_TRAINING_ENV CURRENT_HOST SAGEMAKER_REGION SAGEMAKER_JOB_NAME
SM_CHANNEL_TRAIN SM_HP_EPOCHS SM_HP_LEARNING-RATE
""".split()
SDK_V3 = """
SM_INPUT_DATA_DIR SM_OUTPUT_FAILURE SM_MASTER_ADDR SM_MASTER_PORT SM_HOST_COUNT
SM_CURRENT_HOST_RANK SM_SOURCE_DIR SM_ENTRY_SCRIPT SM_HP_LEARNING_RATE
""".split()


@pytest.fixture
def job(tmp_path):
    return Job(
        tree=Tree(tmp_path),
        hyperparameters=Hyperparameters(
            {
                "epochs": "3",
                "learning-rate": "1e-3",
                "name": '"adam"',
                "nothing": "null",
                "sagemaker_program": '"train.py"',
                "sagemaker_region": '"eu-west-1"',
            }
        ),
        channels={"train": Channel("train"), "a.b": Channel("a.b")},
        cluster=Cluster(current_host="algo-2", hosts=("algo-1", "algo-2")),
    )


@pytest.fixture
def environment(job, tmp_path):
    command = Command("train.py", tmp_path / "code", ["--epochs", "3"])
    platform = {"TRAINING_JOB_NAME": "job-1"}
    return training_environment(job, command, Hardware(cpus=4, gpus=2), platform)


@pytest.mark.parametrize("name", TOOLKIT + SDK_V3)
def test_holds_every_name_of_both_launchers(environment, name):
    """A script written for either finds what it reads."""
    assert name in environment


def test_values(environment, tmp_path):
    """Text stays text, everything else is JSON, paths are inside the tree."""
    assert environment["SM_HOSTS"] == '["algo-1","algo-2"]'
    assert environment["SM_NUM_GPUS"] == "2"
    assert environment["SM_MODEL_DIR"] == str(tmp_path / "model")
    assert environment["SM_CHANNEL_A.B"] == environment["SM_CHANNEL_A_B"]
    assert environment["SM_HP_NAME"] == "adam"
    assert environment["SM_HP_NOTHING"] == ""
    assert environment["SM_HP_LEARNING_RATE"] == "1e-3"
    assert json.loads(environment["SM_HPS"])["epochs"] == 3
    assert "sagemaker_program" not in json.loads(environment["SM_HPS"])
    assert environment["SAGEMAKER_REGION"] == "eu-west-1"
    assert environment["SAGEMAKER_JOB_NAME"] == "job-1"
    assert environment["SM_CURRENT_HOST_RANK"] == "1"


def test_training_env_is_one_object_under_the_toolkits_keys(environment):
    """SM_TRAINING_ENV is what user code reads that wants everything at once."""
    whole = json.loads(environment["SM_TRAINING_ENV"])
    assert whole["hyperparameters"]["epochs"] == 3
    assert whole["channel_input_dirs"]["train"].endswith("/input/data/train")
    assert whole["is_master"] is False
    assert whole["job_name"] == "job-1"


def test_every_value_can_be_set(environment):
    """An environment takes strings without NUL only."""
    assert all(isinstance(value, str) and "\0" not in value for value in environment.values())


def test_what_is_too_long_is_left_out():
    """A string over Linux's limit: whole variables, and of SM_TRAINING_ENV its longest members."""
    everything = json.dumps({"is_master": True, "user_args": ["x"] * 40_000, "hosts": ["algo-1"]})
    longest = "x" * (LONGEST_STRING - len("SM_A=") - 1)
    given = {"SM_A": longest, "SM_B": f"{longest}x", "SM_TRAINING_ENV": everything, "SM_C": "1"}
    fitting, left = fit(given, 10 * LONGEST_STRING)
    assert left == ("SM_TRAINING_ENV: user_args", "SM_B")
    assert fitting["SM_A"] == longest
    assert json.loads(fitting["SM_TRAINING_ENV"]) == {"is_master": True, "hosts": ["algo-1"]}


def test_the_longest_are_left_out_first():
    """So that the short ones, which scripts read, stay whatever the hyperparameters are."""
    given = {
        "SM_HPS": "x" * 5000,
        "SM_HP_A": "x" * 2000,
        "SM_HP_B": "\xe9" * 1500,
        "SM_MODEL_DIR": "/m",
    }
    assert fit(given, 11_000)[1] == ()
    assert fit(given, 9_000)[1] == ("SM_HPS",)
    assert fit(given, 4_000)[1] == ("SM_HPS", "SM_HP_B")
    assert fit(given, 100) == ({"SM_MODEL_DIR": "/m"}, ("SM_HPS", "SM_HP_B", "SM_HP_A"))
