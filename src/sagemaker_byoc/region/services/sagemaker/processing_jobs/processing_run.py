"""One processing job of the region, from its first status to its last, in a thread."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from sagemaker_byoc.contract import facts, folders
from sagemaker_byoc.contract.folders import Entry, OnLeft, left_out, readable
from sagemaker_byoc.contract.paths import DEFAULT_ROOT, Tree
from sagemaker_byoc.contract.training.channels import InputMode
from sagemaker_byoc.region.containers import specs
from sagemaker_byoc.region.containers.specs import Image
from sagemaker_byoc.region.services.sagemaker.jobs import outputs
from sagemaker_byoc.region.services.sagemaker.jobs.containers import UploadError
from sagemaker_byoc.region.services.sagemaker.jobs.inputs import (
    DownloadError,
    Stager,
    outermost,
)
from sagemaker_byoc.region.services.sagemaker.jobs.job import Job, JobRecord
from sagemaker_byoc.region.services.sagemaker.jobs.job_run import (
    ContainersRun,
    Found,
    Layout,
    Needs,
)
from sagemaker_byoc.region.services.sagemaker.jobs.outputs import SyncedFolder, walk_files
from sagemaker_byoc.region.services.sagemaker.processing_jobs.documents import write_config
from sagemaker_byoc.region.services.sagemaker.processing_jobs.processing_plan import (
    OutputPlan,
    ProcessingPlan,
)
from sagemaker_byoc.region.wire.operations import AwsError

MESSAGE = str(PurePosixPath(facts.EXIT_MESSAGE_FILE.value).relative_to(DEFAULT_ROOT))
MESSAGE_BYTES = facts.EXIT_MESSAGE.value
FAILED = "AlgorithmError: See job logs for more information"
"""The service's words (github.com/aws/sagemaker-spark-container, test_spark.py)."""
MOVED = (
    "this kernel forbids mount namespaces, so the folders of the job are below $SAGEMAKER_BASE_DIR "
    "and not at /opt/ml: use --engine docker for a script that names /opt/ml"
)
MOST_CLASHES = 100
"""Sentences about files of one name; a job can have millions of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessingJob(Job):
    plan: ProcessingPlan
    image: Image


class ProcessingRun(ContainersRun):
    """The thread of one processing job."""

    def __init__(
        self, job: ProcessingJob, record: JobRecord, on_end: Callable[[str], None]
    ) -> None:
        plan = job.plan
        needs = Needs(
            image=job.image,
            instance_types=[plan.instance_type],
            channels=plan.inputs,
            synced=[_synced(each) for each in plan.outputs if each.is_continuous],
            max_runtime=plan.max_runtime,
        )
        super().__init__(job, needs, record, on_end)
        self._plan = plan
        self._bad_message: str | None = None

    def _lay_out(self, found: Found) -> Layout:
        plan, context, work = self._plan, self._context, self.job.work
        network = specs.job_network(
            f"{context.prefix}-{self.job.id}",
            self.job.id,
            plan.hosts,
            isolated=plan.isolated,
            labels=context.labels,
        )
        arn = context.account.arn("sagemaker", f"{self.job.kind.resource}/{self.job.name}")
        check_places(plan.outputs, found, bounded(self._log.say_once))
        if context.engine.shares_files and not context.engine.protects_inputs:
            self._log.say_once(MOVED)
        stager = Stager(
            context.store,
            work / "channels",
            context.engine,
            is_stopped=lambda: self.switch.asked,
            has_manifests=False,
        )
        wanted = outermost(["output", *(each.folder for each in plan.outputs)])
        found_specs = {}
        for host, tree in self.job.trees.items():
            write_config(tree, plan, {**self.job.request}, arn, host)
            staged = stager.stage(tree, host, found)
            for folder in ("output", *(each.folder for each in plan.outputs)):
                (tree.root / folder).mkdir(parents=True, exist_ok=True)
            common = specs.processing(
                account=context.account,
                image=self._needs.image,
                tree=tree,
                host=host,
                instance_type=plan.instance_type,
                network=network,
                variables=plan.environment,
            )
            found_specs[host] = replace(
                common,
                entrypoint=plan.entrypoint,
                arguments=plan.arguments,
                inputs=staged.inputs,
                read_only=staged.read_only,
                shared=staged.shared,
                outputs=wanted,
            )
        return Layout(self.job.trees, found_specs, network)

    def _reason(self, tree: Tree, code: int) -> str:  # noqa: ARG002 - no failure file is read
        self._log.say(f"byoc: the job has failed with exit code {code}")
        return FAILED

    def _members(self) -> dict[str, Any]:
        try:
            text = exit_message(self.job.trees, self._log.say_once)
        except UnicodeDecodeError as error:
            self._bad_message = f"ClientError: {DEFAULT_ROOT / MESSAGE} is not UTF-8 ({error})"
            return {}
        return {"ExitMessage": text} if text else {}

    def _upload(self, trees: Mapping[str, Tree], reason: str | None) -> str | None:
        reason = super()._upload(trees, reason)
        return reason or self._bad_message

    def _send(self, trees: Mapping[str, Tree]) -> None:
        """Send what the containers left. An output that can't be sent does not keep others back."""
        # Texts, not errors: a kept error keeps open what was being read, and so its room on a full
        # disk.
        failures = []
        for plan in self._plan.outputs:
            if plan.is_continuous:
                continue
            try:
                self._send_output(plan, trees)
            except (AwsError, OSError) as error:
                failures.append(str(error))
        if failures:
            raise UploadError("; ".join(failures))

    def _send_output(self, plan: OutputPlan, trees: Mapping[str, Tree]) -> None:
        """Send host after host: of two files with one name, the last host's stays."""
        say, owners = self._log.say_once, dict[str, str]()
        clash = bounded(say)
        for host, tree in trees.items():
            files = _owned(host, walk_files(tree, plan.folder, say), plan, owners, clash)
            outputs.send_all(self._context.store, plan.bucket, plan.prefix, files, say)


def bounded(say: OnLeft) -> OnLeft:
    """Return a function that says at most MOST_CLASHES sentences, and that there are more."""
    count = 0

    def say_some(sentence: str) -> None:
        nonlocal count
        count += 1
        if count <= MOST_CLASHES:
            say(sentence)
        elif count == MOST_CLASHES + 1:
            say(f"there are more than {MOST_CLASHES} such files; the rest is not listed")

    return say_some


def _synced(plan: OutputPlan) -> SyncedFolder:
    return SyncedFolder(
        what=f"output {plan.name!r}",
        uri=plan.uri,
        bucket=plan.bucket,
        prefix=plan.prefix,
        folder=plan.folder,
        follows_links=False,
    )


def _owned(
    host: str, files: Iterable[Entry], plan: OutputPlan, owners: dict[str, str], say: OnLeft
) -> Iterator[Entry]:
    """Yield the files among `files`, noting in `owners` who wrote each; report two hosts' files."""
    for entry in files:
        if entry.file is None:  # a folder, which several hosts may have
            continue
        former = owners.get(entry.relative)
        if former is not None:
            shown = readable(str(DEFAULT_ROOT / plan.folder / entry.relative))
            say(f"{shown} was written by {former} and by {host}; {host}'s is kept")
        owners[entry.relative] = host
        yield entry


def check_places(plans: Sequence[OutputPlan], found: Found, say: OnLeft) -> None:
    """Raise DownloadError for a file where a folder is wanted; report a file of two inputs."""
    files: dict[PurePosixPath, str] = {}
    wanted: dict[PurePosixPath, str] = {}
    for output in plans:
        _want(wanted, PurePosixPath(output.folder), f"output {output.name!r}")
    for plan, items in found:
        folder = PurePosixPath(plan.folder)
        if plan.channel.mode is InputMode.PIPE:
            _want(wanted, folder.parent, plan.uri)
            continue
        _want(wanted, folder, plan.uri)
        for item in items:
            path = folder / item.relative
            if path in files:
                shown = readable(str(DEFAULT_ROOT / path))
                say(f"{shown} comes from {files[path]} and from {plan.uri}; the latter's is kept")
            files[path] = plan.uri
            _want(wanted, path.parent, plan.uri)
    for path, uri in files.items():
        if path in wanted:
            raise DownloadError(
                f"{DEFAULT_ROOT / path} would be a file of {uri}, and a folder of {wanted[path]}: "
                "change a LocalPath"
            )


def _want(wanted: dict[PurePosixPath, str], folder: PurePosixPath, of: str) -> None:
    """Note a folder, and those that it is in."""
    for each in (folder, *folder.parents):
        if each in wanted:
            break  # with all above it
        wanted[each] = of


def exit_message(trees: Mapping[str, Tree], on_left: OnLeft) -> str:
    """Return the first KB of all hosts' messages, one after the other. Raise UnicodeDecodeError."""
    texts = []
    for tree in trees.values():
        try:
            data = folders.read(tree.root, MESSAGE, MESSAGE_BYTES + 1) or b""
        except (OSError, folders.LeftOutError) as error:
            on_left(left_out(MESSAGE, error))
            continue
        # The cut may divide a character.
        decoder = codecs.getincrementaldecoder("utf-8")()
        texts.append(decoder.decode(data, final=len(data) <= MESSAGE_BYTES))
    return "".join(texts).encode()[:MESSAGE_BYTES].decode("utf-8", "ignore")
