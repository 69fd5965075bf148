"""`byoc monitor`: a baseline of data, captured traffic against it, and why."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from sagemaker_byoc.cli import target
from sagemaker_byoc.cli.terminal import console, failures
from sagemaker_byoc.cli.terminal.arguments import HINT
from sagemaker_byoc.cli.terminal.progress import Progress
from sagemaker_byoc.cloud.session import Cloud, resolve_region
from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.contract.variables import REGION_URL
from sagemaker_byoc.host.aws_calls import Call, Caller

if TYPE_CHECKING:
    from sagemaker_byoc.monitor.places import Input, Places
    from sagemaker_byoc.monitor.predictions import Attributes

HELP = "Measure the drift of captured traffic from a baseline: baseline, run, explain."
FORMATS = ("csv", "csv-without-header", "json", "jsonlines", "parquet", "capture")
_CHUNK = 1 << 20
PROBLEMS = ("Regression", "BinaryClassification", "MulticlassClassification")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    text = "Make statistics.json and constraints.json from a dataset."
    baseline = actions.add_parser("baseline", help=text, description=text)
    baseline.add_argument("data", metavar="DATA", help="a file or folder, or s3://…")
    _add_reading(baseline)
    _add_quality(baseline)
    text = "Compare captured traffic with a baseline."
    run_ = actions.add_parser("run", help=text, description=text)
    run_.add_argument("data", metavar="CAPTURES", help="a file or folder, or s3://…")
    run_.add_argument("--baseline", required=True, metavar="DIR", help="a folder, or s3://…")
    run_.add_argument(
        "--fail-on-violation",
        action="store_true",
        help=f"exit with {failures.FAILED} on a violation, with {failures.UNJUDGED} if nothing was "
        "checked",
    )
    run_.add_argument(
        "--since", type=_time, metavar="TIME", help="first moment in UTC, as 2026-11-23T15:00:00Z"
    )
    run_.add_argument("--until", type=_time, metavar="TIME", help="first moment that is left out")
    run_.add_argument(
        "--postprocess", type=Path, metavar="FILE", help="a script with postprocess_handler()"
    )
    _add_reading(run_)
    _add_quality(run_)
    run_.add_argument(
        "--ground-truth", metavar="PLACE", help="labels in JSON Lines, for model quality"
    )
    text = "Explain what a run found, and what it could have found."
    explain = actions.add_parser("explain", help=text, description=text)
    explain.add_argument("data", metavar="DIR", help="the --output of a run, or s3://…")
    for each in (baseline, run_, explain):
        each.add_argument("--json", action="store_true", help="print the result as one JSON object")


def _add_reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="write results here: a folder, or s3://…"
    )
    parser.add_argument("--format", choices=FORMATS, help="(default: detected from the first line)")
    parser.add_argument(
        "--outputs",
        choices=("start", "end", "none"),
        help="position of a row's outputs among the columns (default: none if the inputs alone "
        "fill the columns, else start)",
    )
    parser.add_argument(
        "--preprocess",
        type=Path,
        metavar="FILE",
        help="a script with preprocess_handler(inference_record)",
    )


def _add_quality(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model quality")
    group.add_argument("--problem", choices=PROBLEMS, help="judge predictions instead of data")
    group.add_argument("--label", metavar="COLUMN", help="the true label, in a dataset")
    group.add_argument(
        "--prediction", metavar="COLUMN", help="a column, or the number of an output"
    )
    group.add_argument(
        "--probability", metavar="COLUMN", help="a column, or the number of an output"
    )
    group.add_argument(
        "--threshold", type=float, default=0.5, help="threshold of the probability (default: 0.5)"
    )


def _time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time{HINT}write 2026-11-23T15:00:00Z"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def run(arguments: argparse.Namespace) -> int:
    with target.explained_imports("the monitor", "monitor"):
        from sagemaker_byoc.monitor import jobs  # noqa: F401, PLC0415 - needs numpy
    return _RUN[arguments.action](arguments)


@contextmanager
def _places() -> Iterator[Places]:
    from sagemaker_byoc.monitor.places import Places  # noqa: PLC0415 - needs numpy

    with S3() as store:
        yield Places(store)


def _input(arguments: argparse.Namespace) -> Input:
    from sagemaker_byoc.monitor.inputs.layout import Outputs  # noqa: PLC0415
    from sagemaker_byoc.monitor.inputs.streams import Window  # noqa: PLC0415 - needs numpy
    from sagemaker_byoc.monitor.inputs.tables import Format  # noqa: PLC0415
    from sagemaker_byoc.monitor.places import Input  # noqa: PLC0415

    since, until = getattr(arguments, "since", None), getattr(arguments, "until", None)
    window = None
    if since or until:
        earliest, latest = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
        window = Window(since or earliest, until or latest)
    return Input(
        place=arguments.data,
        form=Format(arguments.format) if arguments.format else None,
        outputs=Outputs((arguments.outputs or "auto").upper()),
        window=window,
        preprocess=arguments.preprocess,
        about={"baseline": getattr(arguments, "baseline", "")},
    )


def _baseline(arguments: argparse.Namespace) -> int:
    from sagemaker_byoc.monitor import jobs  # noqa: PLC0415 - needs numpy

    with _places() as places:
        made = jobs.make_baseline(
            places, _input(arguments), _attributes(arguments), arguments.output
        )
    if arguments.json:
        console.document({**made, "output": arguments.output})
        return failures.DONE
    for line in made.get("notices", ()):
        console.detail(line)
    _warn(made.get("warnings") or {})
    counted = [
        f"{len(each):,} {name}" if isinstance(each, dict) else f"{each:,} {name}"
        for name, each in made.items()
        if name not in {"unread", "notices", "warnings"}
    ]
    console.result(f"{', '.join(counted)}: {arguments.output}/constraints.json")
    return failures.DONE


def _warn(warnings: Mapping[str, str]) -> None:
    """Print what no run compares with this baseline; columns with the same reason share a line."""
    from sagemaker_byoc.monitor.explanation import by_reason, listed  # noqa: PLC0415 - needs numpy

    for reason, names in by_reason(warnings).items():
        console.detail(f"{listed(names)}: {reason}")


def _run(arguments: argparse.Namespace) -> int:
    from sagemaker_byoc.monitor import jobs  # noqa: PLC0415 - needs numpy
    from sagemaker_byoc.monitor.inputs import scripts  # noqa: PLC0415

    with _places() as places:
        baseline = jobs.documents(places, arguments.baseline)
        wanted = _attributes(arguments, jobs.problem_of(baseline))
        found = jobs.run(places, _input(arguments), baseline, wanted, arguments.output)
    if arguments.postprocess:
        scripts.run_postprocessor(arguments.postprocess)
    _show(arguments, found.why, found.words)
    if not arguments.fail_on_violation:
        return failures.DONE
    if not found.violations and not found.has_checked:
        console.detail("nothing was checked: neither a violation nor a pass")
        return failures.UNJUDGED
    return failures.FAILED if found.violations else failures.DONE


def _attributes(arguments: argparse.Namespace, problem: str | None = None) -> Attributes | None:
    from sagemaker_byoc.monitor.predictions import Attributes  # noqa: PLC0415
    from sagemaker_byoc.monitor.scores import Problem  # noqa: PLC0415 - needs numpy

    chosen = arguments.problem or problem
    if chosen is None:
        names = ("label", "prediction", "probability", "ground_truth")
        given = [name for name in names if getattr(arguments, name, None) is not None]
        if given:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise RequestError(
                f"only model quality takes {options}",
                hint=f"Give --problem too: {', '.join(PROBLEMS)}",
            )
        return None
    return Attributes(
        problem=Problem(chosen),
        label=arguments.label,
        prediction=arguments.prediction,
        probability=arguments.probability,
        threshold=arguments.threshold,
        labels=getattr(arguments, "ground_truth", None),
    )


def _explain(arguments: argparse.Namespace) -> int:
    from sagemaker_byoc.monitor import jobs  # noqa: PLC0415 - needs numpy

    with _places() as places:
        found = jobs.read_explanation(places, arguments.data)
    _show(arguments, found, jobs.words(found))
    return failures.DONE


def _show(arguments: argparse.Namespace, found: Mapping[str, Any], words: list[str]) -> None:
    if arguments.json:
        console.document(found)
        return
    for line in words:
        console.result(line)


_RUN: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "baseline": _baseline,
    "run": _run,
    "explain": _explain,
}


# ── S3 ──


def _caller() -> Caller:
    """Return what makes calls of S3: in the local region if one is named, else in AWS."""
    url = os.environ.get(REGION_URL)
    if url:
        return target.Target(url.rstrip("/"), f"${REGION_URL}").caller()
    return Cloud(resolve_region(None))


class S3:
    """The store that the monitor reads and writes; a context, in which progress is shown.

    The client is made when it is first needed.
    """

    def __init__(self, make_caller: Callable[[], Caller] = _caller) -> None:
        self._make = make_caller
        self._caller: Caller | None = None
        self._progress = Progress("read from S3")
        self._sizes: dict[str, int] = {}
        self._expected: set[str] = set()
        self._copy: tuple[str, BinaryIO] | None = None
        """The object that was read last, kept because its first bytes are read once more."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.finish()
        self._forget()

    def _forget(self) -> None:
        if self._copy is not None:
            self._copy[1].close()
        self._copy = None

    def names(self, uri: str) -> Iterator[str]:
        bucket, key = _split(uri)
        parameters: dict[str, Any] = {"Bucket": bucket, "Prefix": key}
        below = key if not key or key.endswith("/") else f"{key}/"
        while True:
            page = self._ask("ListObjectsV2", parameters)
            for found in page.get("Contents", ()):
                name = str(found["Key"])
                if name == key or (name.startswith(below) and not name.endswith("/")):
                    self._sizes[f"s3://{bucket}/{name}"] = int(found.get("Size", 0))
                    yield f"s3://{bucket}/{name}"
            if not page.get("IsTruncated"):
                return
            parameters["ContinuationToken"] = page["NextContinuationToken"]

    def expect(self, names: Iterable[str]) -> None:
        new = {*names} - self._expected
        self._expected |= new
        self._progress.expect(sum(self._sizes.get(name, 0) for name in new))

    def open(self, uri: str) -> BinaryIO:
        if self._copy is None or self._copy[0] != uri:
            self._forget()
            self._copy = uri, self._fetched(uri)
        descriptor = os.dup(self._copy[1].fileno())
        os.lseek(descriptor, 0, os.SEEK_SET)
        return os.fdopen(descriptor, "rb")

    def _fetched(self, uri: str) -> BinaryIO:
        bucket, key = _split(uri)
        body = self._ask("GetObject", {"Bucket": bucket, "Key": key})["Body"]
        copy = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - until another one is read
        try:
            with target.refusals():
                while chunk := body.read(_CHUNK):
                    copy.write(chunk)
                    self._progress.advance(len(chunk))
        except BaseException:
            copy.close()
            raise
        finally:
            body.close()
        return copy

    def put(self, uri: str, data: bytes) -> None:
        bucket, key = _split(uri)
        self._ask("PutObject", {"Bucket": bucket, "Key": key, "Body": data})

    def _ask(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        if self._caller is None:
            self._caller = self._make()
        return self._caller.call(Call("s3", operation, parameters))


def _split(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not bucket:
        raise RequestError(f"{uri!r} names no bucket", hint="Write s3://BUCKET/PREFIX")
    return bucket, key
