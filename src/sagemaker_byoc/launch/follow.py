"""Wait for a job or an endpoint, and show its log meanwhile."""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sagemaker_byoc.contract.errors import TimeLimitError
from sagemaker_byoc.host.aws_calls import Call, Caller
from sagemaker_byoc.launch.execute import LaunchError, Say, find

JOBS_GROUP = "/aws/sagemaker/TrainingJobs"
ENDPOINTS_GROUP = "/aws/sagemaker/Endpoints"
Line = Callable[[str, str], None]
"""Called with the stream's name and the line."""


class FailedError(LaunchError):
    """A job that is Failed, an endpoint that is not InService."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    caller: Caller
    say: Say
    line: Line
    seconds: float
    """Longest time to wait."""
    pause: float
    """Seconds between two requests: AWS limits their rate."""


@dataclass(frozen=True, slots=True)
class Ended:
    status: str
    model: str = ""
    """S3 URI of a job's artifact."""
    arn: str = ""


def wait_for_job(name: str, watch: Watch) -> Ended:
    """Wait until the job ends. Raise FailedError with the job's own reason, or TimeLimitError."""
    logs = Logs(watch.caller, JOBS_GROUP, f"{name}/")
    ask = Call("sagemaker", "DescribeTrainingJob", {"TrainingJobName": name})
    said: list[str] = []

    def has_ended(found: dict[str, Any]) -> bool:
        for number, entry in enumerate(found.get("SecondaryStatusTransitions", ())):
            words = f"{entry['Status']}: {entry.get('StatusMessage') or entry['Status']}"
            if said[number : number + 1] == [words]:
                continue
            if number == len(said):
                logs.show(watch.line, until=entry["StartTime"])
            said[number:] = [words]  # or a new message of the same status
            watch.say(words)
        return found["TrainingJobStatus"] in {"Completed", "Failed", "Stopped"}

    found = _until(has_ended, ask, logs, watch, f"training job {name}")
    status = found["TrainingJobStatus"]
    if status != "Completed":
        reason = found.get("FailureReason") or "it was stopped, or reached its maximum runtime"
        raise FailedError(
            f"training job {name} {status}: {reason}",
            hint="Read its log above; `byoc train` runs the same program on this machine",
        )
    model = found.get("ModelArtifacts", {}).get("S3ModelArtifacts", "")
    return Ended(status, model, found.get("TrainingJobArn", ""))


def wait_for_endpoint(name: str, config: str, watch: Watch) -> Ended:
    """Wait until it serves the configuration `config`. Raise FailedError or TimeLimitError."""
    logs = Logs(watch.caller, f"{ENDPOINTS_GROUP}/{name}", "")
    ask = Call("sagemaker", "DescribeEndpoint", {"EndpointName": name})
    said: list[str] = []

    def has_ended(found: dict[str, Any]) -> bool:
        status = found["EndpointStatus"]
        if said[-1:] != [status]:
            said.append(status)
            watch.say(f"endpoint {name} is {status}")
        return status not in {"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"}

    found = _until(has_ended, ask, logs, watch, f"endpoint {name}")
    status, serves = found["EndpointStatus"], found.get("EndpointConfigName")
    if status != "InService" or serves != config:
        reason = found.get("FailureReason") or "no reason was given"
        left = f"; it still serves {serves}" if status == "InService" else ""
        raise FailedError(
            f"endpoint {name} is {status} and not as asked for{left}: {reason}",
            hint="Read its log above; `byoc check IMAGE --serve` tries the image on this machine",
        )
    return Ended(status, arn=found.get("EndpointArn", ""))


def _until(
    has_ended: Callable[[dict[str, Any]], bool], ask: Call, logs: Logs, watch: Watch, what: str
) -> dict[str, Any]:
    deadline = time.monotonic() + watch.seconds
    with ThreadPoolExecutor(1) as pool:
        while True:
            # The answer may take its time; lines are shown meanwhile, and until after the end.
            answer = pool.submit(find, ask, watch.caller)
            _show_until(answer, logs, watch, deadline)
            found = answer.result()
            if found is None:
                raise FailedError(f"{what} is gone", hint="It was deleted; launch it again")
            logs.fetch()
            ended = has_ended(found)
            logs.show(watch.line)
            if ended:
                return found
            if time.monotonic() >= deadline:
                raise TimeLimitError(
                    f"{what} did not end within {watch.seconds:.0f} s, and continues",
                    hint="Run the same command to wait for it again, with a longer --timeout",
                )
            time.sleep(watch.pause)


def _show_until(answer: Future[Any], logs: Logs, watch: Watch, deadline: float) -> None:
    while time.monotonic() < deadline:
        # The answer first: a change of status is older than the lines that follow it.
        with suppress(TimeoutError):
            answer.exception(timeout=watch.pause)
        if answer.done():
            return
        logs.fetch()
        logs.show(watch.line)


@dataclass(slots=True)
class Logs:
    """The streams of one job or endpoint, and how far each was read."""

    caller: Caller
    group: str
    prefix: str
    tokens: dict[str, str] = field(default_factory=dict)
    fetched: list[tuple[int, str, str]] = field(default_factory=list)
    """Events that are not shown yet: milliseconds of the epoch, host, text."""

    def fetch(self) -> None:
        self.fetched += [event for stream in self._streams() for event in self._events(stream)]
        self.fetched.sort(key=lambda event: event[0])

    def show(self, line: Line, *, until: datetime | None = None) -> None:
        """Show what was fetched, or the part of it that is not later than `until`."""
        limit = math.inf if until is None else until.timestamp() * 1000
        count = bisect_right(self.fetched, limit, key=lambda event: event[0])
        shown, self.fetched = self.fetched[:count], self.fetched[count:]
        for _, host, text in shown:
            line(host, text)

    def _streams(self) -> Iterator[str]:
        asked: dict[str, Any] = {"logGroupName": self.group}
        if self.prefix:
            asked["logStreamNamePrefix"] = self.prefix
        while True:
            page = find(Call("logs", "DescribeLogStreams", asked), self.caller)
            for stream in (page or {}).get("logStreams", ()):
                yield stream["logStreamName"]
            if not page or not page.get("nextToken"):
                return
            asked = {**asked, "nextToken": page["nextToken"]}

    def _events(self, stream: str) -> Iterator[tuple[int, str, str]]:
        host = stream.removeprefix(self.prefix).rpartition("-")[0] if self.prefix else stream
        while True:
            token = self.tokens.get(stream)
            asked: dict[str, Any] = {
                "logGroupName": self.group,
                "logStreamName": stream,
                "startFromHead": True,
            }
            asked |= {"nextToken": token} if token else {}
            page = find(Call("logs", "GetLogEvents", asked), self.caller)
            if page is None:
                return
            for event in page["events"]:
                yield event["timestamp"], host, event["message"]
            self.tokens[stream] = page["nextForwardToken"]
            if token == page["nextForwardToken"]:
                return
