"""The region that a command means, and requests and calls to it."""

from __future__ import annotations

import argparse
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagemaker_byoc.contract.errors import MachineError, RequestError
from sagemaker_byoc.contract.installation import add_extra
from sagemaker_byoc.contract.variables import REGION_URL
from sagemaker_byoc.host.aws_calls import Call, RefusedError, note
from sagemaker_byoc.region.core.account import DEFAULT_REGION, HINT, Keys
from sagemaker_byoc.region.core.polling import FOLLOWER

URL_VARIABLES = (REGION_URL, "AWS_ENDPOINT_URL")
_ANSWER_SECONDS = 30.0
_RUNNING = "Is the region running? `byoc local up`"
_KEYS = 'Run eval "$(byoc local env)" again, or name the region\'s folder with --state'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--url",
        help=f"URL of the region (default: ${REGION_URL}, $AWS_ENDPOINT_URL, "
        "or the region of the default state folder)",
    )
    add_state(choice)


def add_state(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help="the region's folder (default: ~/.local/share/sagemaker-byoc/default)",
    )


@dataclass(frozen=True, slots=True)
class Target:
    """A region that answers. `source` is where its URL was found."""

    url: str
    source: str
    state: Path | None = None
    """Its folder, which has the keys, if it is known."""

    @property
    def keys(self) -> Keys:
        """Raise MachineError if they are not known here."""
        from sagemaker_byoc.region.clients import find_keys  # noqa: PLC0415 - POSIX only

        return find_keys(self.url, self.state)

    def status(self) -> dict[str, Any]:
        return self._ask("GET", "status")

    def post(self, command: str) -> None:
        self._ask("POST", command)

    def client(self, service: str, **config: Any) -> Any:
        """Return a botocore client of this region; `config` are options of botocore's Config."""
        from sagemaker_byoc.region.clients import make_client  # noqa: PLC0415 - needs botocore

        with explained_imports():
            return make_client(service, self.url, self.keys, **config)

    def caller(self, region: str = DEFAULT_REGION) -> RegionCaller:
        return RegionCaller(self.url, region, self.keys)

    def _ask(self, method: str, command: str) -> dict[str, Any]:
        """Raise MachineError if nothing answers, RequestError for what the region refuses."""
        from sagemaker_byoc.region.wire.signatures import sign  # noqa: PLC0415 - of the host side

        url = f"{self.url}/_byoc/{urllib.parse.quote(command)}"
        signed = sign(method, url, self.keys)
        request = urllib.request.Request(  # noqa: S310 - http, checked by find()
            url, method=method, headers={"x-byoc": "1", **signed}
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=_ANSWER_SECONDS) as response:
                answer: dict[str, Any] = json.load(response)
                return answer
        except urllib.error.HTTPError as error:
            with error:
                raise _refusal(f"the region at {self.url} refuses: {_message(error)}") from error
        except (OSError, ValueError) as error:
            raise MachineError(
                f"no region answers at {self.url} (from {self.source}): {_reason(error)}",
                hint="Start one with `byoc local up`, or name it with --url",
            ) from error


class RegionCaller:
    """Makes calls in the region at `url`, as `cloud.session.Cloud` makes them in AWS."""

    def __init__(self, url: str, region: str, keys: Keys) -> None:
        self.region = region
        self._url = url
        self._keys = keys
        self._clients: dict[str, Any] = {}

    def call(self, call: Call) -> dict[str, Any]:
        with explained_imports():
            from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - slow
        note(call, self._url)
        try:
            answer: dict[str, Any] = getattr(self._client(call.service), call.method)(
                **call.parameters
            )
        except ClientError as error:
            found = error.response.get("Error", {})
            message = found.get("Message") or str(error)
            if message.endswith(HINT):
                raise _refusal(message) from error
            raise RefusedError(
                str(found.get("Code", "")),
                f"{call.service} {call.operation}: {message}",
                hint="Correct what it names; `byoc ps` shows what the region has",
            ) from error
        except BotoCoreError as error:
            raise MachineError(str(error), hint=_RUNNING) from error
        return answer

    def _client(self, service: str) -> Any:
        from sagemaker_byoc.region.clients import make_client  # noqa: PLC0415 - needs botocore

        if service not in self._clients:
            self._clients[service] = make_client(
                service, self._url, self._keys, region=self.region, user_agent_extra=FOLLOWER
            )
        return self._clients[service]


_START = "Start it with `byoc local up --detach`, or name another --state or --url"


def find(arguments: argparse.Namespace, instead: str = "") -> Target:
    """Return the region that the flags or variables name. Raise MachineError if there is none."""
    if arguments.url is not None:
        return _checked(arguments.url, "--url")
    if arguments.state is None:
        for name in URL_VARIABLES:
            if os.environ.get(name):
                return _checked(os.environ[name], f"${name}")
    return of_state(state_folder(arguments), instead)


def of_state(state: Path, instead: str = "") -> Target:
    """Return the region of a state folder; `instead` ends the hint if there is none."""
    from sagemaker_byoc.region.core.state_folder import read_address  # noqa: PLC0415 - POSIX only

    address = read_address(state)
    if address is None:
        raise MachineError(
            f"no region runs in {state}",
            hint=_START + instead,
        )
    return Target(address.url, str(state), state)


def state_folder(arguments: argparse.Namespace) -> Path:
    from sagemaker_byoc.region.core.state_folder import default_state  # noqa: PLC0415 - POSIX only

    return default_state() if arguments.state is None else arguments.state.resolve()


@contextmanager
def explained_imports(room: str = "the region", extra: str = "local") -> Iterator[None]:
    """Turn a missing package into MachineError: what `room` needs is an extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MachineError(
            f"the Python package {error.name} is missing",
            hint=f"Install what {room} needs: {add_extra(extra)}",
        ) from error


@contextmanager
def refusals() -> Iterator[None]:
    """Turn a service's refusal into an error of ours with the service's words."""
    with explained_imports():
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415
    try:
        yield
    except ClientError as error:
        message = error.response.get("Error", {}).get("Message") or str(error)
        raise _refusal(message) from error
    except BotoCoreError as error:
        raise MachineError(str(error), hint=_RUNNING) from error


def _checked(url: str, source: str) -> Target:
    if not url.startswith(("http://", "https://")):
        raise RequestError(
            f"{source} is {url!r}, which is not an http URL", hint="Write http://HOST:PORT"
        )
    return Target(url.rstrip("/"), source)


def _refusal(message: str) -> RequestError:
    if message.endswith(HINT):
        return RequestError(message.removesuffix(HINT).rstrip(". "), hint=_KEYS)
    return RequestError(message, hint="`byoc ps` shows what the region has")


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["message"])
    except (ValueError, KeyError, OSError):
        return f"HTTP {error.code}"


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", error))
