"""`train --check`: whether a job could run here, a verdict a line, and nothing is started."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.training.supervisor.preflight.job_checks import (
    channels,
    hosts,
    program,
    unused_gpus,
)
from sagemaker_byoc.training.supervisor.preflight.machine_checks import (
    Finding,
    Level,
    machine,
    places,
)
from sagemaker_byoc.training.supervisor.ranks.outside import read_job


def check(tree: Tree, environ: Mapping[str, str]) -> int:
    """0 if nothing would keep a job from running."""
    failed = 0
    for finding in _findings(tree, environ):
        failed += finding.level is Level.FAIL
        sys.stdout.write(f"{finding}\n")
    return 1 if failed else 0


def _findings(tree: Tree, environ: Mapping[str, str]) -> Iterable[Finding]:
    yield from machine(environ)
    yield from places(tree)
    try:
        job = read_job(tree, environ)
    except ContractError as error:
        yield Finding(Level.FAIL, "configuration", error.sentence, error.hint)
        return
    yield from unused_gpus(job, environ)
    yield program(job, environ)
    yield from channels(job)
    yield from hosts(job, environ)
