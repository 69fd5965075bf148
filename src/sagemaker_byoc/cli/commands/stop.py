"""`byoc stop` and `byoc interrupt`: end a job or an endpoint, interrupt a spot job."""

from __future__ import annotations

import argparse

from sagemaker_byoc.cli import target
from sagemaker_byoc.cli.commands.logs import endpoints_named, jobs_named
from sagemaker_byoc.cli.terminal import console
from sagemaker_byoc.contract.errors import RequestError

HELP = "Stop a training job (its model is kept), or delete an endpoint."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="JOB|ENDPOINT")
    target.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    region, name = target.find(arguments), arguments.name
    region.status()
    client = region.client("sagemaker")
    with target.refusals():
        if jobs_named(client, name).get(name) == "InProgress":
            client.stop_training_job(TrainingJobName=name)
            console.step(f"training job {name} is stopping: it has 120 s to save its model")
            return _result(arguments, "job", "Stopping")
        if name in endpoints_named(client, name):
            client.delete_endpoint(EndpointName=name)
            console.step(f"endpoint {name} is being deleted")
            return _result(arguments, "endpoint", "Deleting")
    raise RequestError(
        f"no training job {name!r} is in progress at {region.url}, and there is no such endpoint",
        hint="`byoc ps` lists them",
    )


def _result(arguments: argparse.Namespace, kind: str, status: str) -> int:
    if arguments.json:
        console.document({"kind": kind, "name": arguments.name, "status": status})
    return 0


class Interrupt:
    """`byoc interrupt`: take a spot job's instances away, as the spot market would."""

    HELP = "Interrupt a managed spot training job; it is started again from its checkpoints."

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("name", metavar="JOB")
        target.add_arguments(parser)
        parser.add_argument(
            "--json", action="store_true", help="print the result as one JSON object"
        )

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        target.find(arguments).post(f"interrupt/{arguments.name}")
        console.step(f"training job {arguments.name} is interrupted")
        return _result(arguments, "job", "Interrupted")
