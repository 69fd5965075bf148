"""`byoc stop`: stop a training job, or delete an endpoint."""

from __future__ import annotations

import argparse

from sagemaker_byoc.cli import console, target
from sagemaker_byoc.cli.logs import endpoints_named, jobs_named
from sagemaker_byoc.local.errors import RequestError

HELP = "Stop a training job (its model is kept), or delete an endpoint."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="JOB|ENDPOINT")
    target.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    region, name = target.find(arguments), arguments.name
    region.status()
    client = region.client("sagemaker")
    with target.refusals():
        if jobs_named(client, name).get(name) == "InProgress":
            client.stop_training_job(TrainingJobName=name)
            console.step(f"training job {name} is stopping: it has 120 s to save its model")
            return 0
        if name in endpoints_named(client, name):
            client.delete_endpoint(EndpointName=name)
            console.step(f"endpoint {name} is being deleted")
            return 0
    raise RequestError(
        f"no training job {name!r} is in progress at {region.url}, and there is no such endpoint",
        cure="`byoc ps` lists them",
    )
