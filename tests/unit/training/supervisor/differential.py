"""The same trees through sagemaker-training and through us, and what comes out differently.

Differences are kept as data in differences.json, each with its reason; the page
docs/reference/differences-from-sagemaker-training.md is made from it:
    python -m tests.unit.training.supervisor.differential        writes the page
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[4]
DATA = Path(__file__).with_name("differences.json")
PAGE = ROOT / "docs" / "reference" / "differences-from-sagemaker-training.md"
PROGRAM = ROOT / "tests" / "zoo" / "trainers" / "dumps_environment.py"
PLAIN = {"sagemaker_program": '"train.py"'}

HEAD = """# Differences from sagemaker-training

The same job, described by the same files, is given to the program by sagemaker-training 5.1.4 and
by our supervisor. A test (`tests/unit/training/supervisor/test_differences.py`) runs both on
several trees and compares each argument and each variable; whatever differs has to be in the first
two tables, and whatever is in them has to differ.

This page is generated from `tests/unit/training/supervisor/differences.json`. `/opt/ml` stands for
the job's root.
"""
TITLES = {
    "argument": ("Arguments", "| sagemaker-training | here | why |\n|---|---|---|"),
    "variable": ("Environment", "| names | difference | why |\n|---|---|---|"),
    "behaviour": (
        "Behaviour, which other tests cover",
        "| | sagemaker-training | here |\n|---|---|---|",
    ),
}


@dataclass(frozen=True)
class Case:
    """One tree, and the environment of its container."""

    name: str
    hyperparameters: dict[str, str] = field(default_factory=dict)
    channels: dict[str, dict[str, str]] = field(default_factory=dict)
    resources: dict[str, object] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)


HYPERPARAMETERS = {
    "integer": "3",
    "float": "0.001",
    "leading_zero": "01234",
    "exponent": "1e-3",
    "version": "1.10",
    "true": "true",
    "false": "false",
    "null": "null",
    "list": '[1, "a"]',
    "object": '{"a": 1}',
    "plain": "adam",
    "quoted": '"adam"',
    "infinity": "Infinity",
    "negative": "-1e-3",
    "empty": "",
    "x": "5",
    "learning-rate": "0.1",
    "shell": "$HOME `id` ; it's",
    "_tuning_objective_metric": "loss",
}
CASES = (
    Case("hyperparameters", HYPERPARAMETERS),
    Case(
        "channels",
        channels={
            "train": {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated",
                      "RecordWrapperType": "None", "ContentType": "text/csv"},
            "my-valid.set": {"TrainingInputMode": "FastFile"},
        },
    ),
    Case(
        "several hosts",
        resources={
            "current_host": "algo-2",
            "current_instance_type": "ml.g4dn.xlarge",
            "current_group_name": "gpu",
            "hosts": ["algo-1", "algo-10", "algo-2"],
            "instance_groups": [
                {"instance_group_name": "gpu", "instance_type": "ml.g4dn.xlarge",
                 "hosts": ["algo-10", "algo-2"]},
                {"instance_group_name": "cpu", "instance_type": "ml.c5.large", "hosts": ["algo-1"]},
            ],
            "network_interface_name": "eth0",
        },
    ),
    Case(
        "job",
        {"sagemaker_job_name": '"by-hyperparameter"', "sagemaker_region": '"eu-west-1"'},
        environ={"TRAINING_JOB_NAME": "my-job", "AWS_REGION": "us-east-1"},
    ),
)  # fmt: skip


def run(case: Case, folder: Path, command: list[str]) -> dict[str, object]:
    """What the program was given; paths under /opt/ml whatever the tree's folder is."""
    tree = folder / "ml"
    config = tree / "input" / "config"
    config.mkdir(parents=True)
    (tree / "code").mkdir()
    (tree / "code" / "train.py").write_text(PROGRAM.read_text())
    (tree / "output" / "data").mkdir(parents=True)  # the toolkit makes no folder
    for channel in case.channels:
        (tree / "input" / "data" / channel).mkdir(parents=True)
    alone = {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0"}
    documents = {
        "hyperparameters": {**PLAIN, **case.hyperparameters},
        "inputdataconfig": case.channels,
        "resourceconfig": case.resources or alone,
    }
    for name, document in documents.items():
        (config / f"{name}.json").write_text(json.dumps(document))
    environ = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "SAGEMAKER_BASE_DIR": str(tree),
        "SM_STUDIO_LOCAL_MODE": "true",  # the toolkit's way not to wait for hosts
        "BYOC_DNS_SECONDS": "0",
        **case.environ,
    }
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    facts = tree / "output" / "data" / "facts.json"
    assert facts.exists(), f"{case.name}: {done.stdout}{done.stderr}"
    text = facts.read_text().replace(str(tree), "/opt/ml").replace(str(tree.resolve()), "/opt/ml")
    found: dict[str, object] = json.loads(text)
    return found


def differences(theirs: dict, ours: dict) -> dict[tuple[str, str, str], tuple[str, str]]:
    """What differs: kind, name and how, to the two values."""
    found = {}
    for kind, left, right in (
        ("variable", _flat(theirs["environ"]), _flat(ours["environ"])),
        ("argument", _arguments(theirs["argv"]), _arguments(ours["argv"])),
    ):
        for name in sorted(left.keys() | right.keys()):
            pair = left.get(name, ""), right.get(name, "")
            if name not in left or name not in right:
                found[kind, name, "only here" if name in right else "only there"] = pair
            elif pair[0] != pair[1]:
                found[kind, name, "other value"] = pair
    return found


def listed() -> dict[tuple[str, str, str], dict]:
    """The reviewed differences, by kind, name and how."""
    return {
        (entry["kind"], name, entry["how"]): entry
        for entry in json.loads(DATA.read_text())
        if entry["kind"] != "behaviour"
        for name in entry["names"]
    }


def _flat(environ: dict[str, str]) -> dict[str, str]:
    """JSON texts compared by what they say; SM_TRAINING_ENV by its parts."""
    flat = {}
    for name, text in environ.items():
        if name == "SM_TRAINING_ENV":
            parts = json.loads(text)
            flat.update({f"{name}: {key}": _shown(value) for key, value in parts.items()})
        else:
            try:
                flat[name] = _shown(json.loads(text)) if text[:1] in "[{" else text
            except ValueError:
                flat[name] = text
    return flat


def _shown(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def _arguments(words: list[str]) -> dict[str, str]:
    """The words of each option."""
    options: dict[str, list[str]] = {}
    current = ""
    for word in words:
        if re.match(r"--?[a-z]", word):
            current = word.partition("=")[0]
        options.setdefault(current, []).append(word)
    return {name: " ".join(found) for name, found in options.items()}


def page() -> str:
    entries = json.loads(DATA.read_text())
    lines = [HEAD]
    for kind, (title, head) in TITLES.items():
        lines += [f"## {title}\n", head]
        lines += [_row(entry) for entry in entries if entry["kind"] == kind]
        lines.append("")
    return "\n".join(lines)


def _row(entry: dict) -> str:
    match entry["kind"]:
        case "argument":
            return f"| `{entry['toolkit']}` | `{entry['ours']}` | {entry['why']} |"
        case "variable":
            names = ", ".join(f"`{name}`" for name in entry["names"])
            return f"| {names} | {entry['how']} | {entry['why']} |"
    return f"| {entry['what']} | {entry['toolkit']} | {entry['ours']} |"


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.exit(0)
