"""The region's HTTP client for the hop to a container, beside aiohttp's and httpx's.

Run: .venv/bin/pip install aiohttp httpx && .venv/bin/python benchmarks/region_hop.py

Three regions, one per client, each with one endpoint on a stub container that sends back what it
gets. wrk asks them in turns. docs/decisions/0029-hop.md has the result.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from sagemaker_byoc.contract.folders import OnLeft
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.region import region as region_module
from sagemaker_byoc.region.clients import make_client
from sagemaker_byoc.region.containers.http_pool import CONNECT_SECONDS, CONNECTIONS, Pool
from sagemaker_byoc.region.containers.http_reply import (
    BrokenError,
    BusyError,
    MalformedError,
    OverdueError,
    OversizeError,
    UnreachableError,
)
from sagemaker_byoc.region.core.account import read_keys
from sagemaker_byoc.region.engines.container import Container, ContainerSpec, Network
from sagemaker_byoc.region.services.sagemaker.endpoints import instance

TICK = os.sysconf("SC_CLK_TCK")
STREAM = b"x" * 1024
PIECES = 100
WORKLOADS = {  # connections, bytes of the body, path
    "200 B, 1 connection": (1, 200, "invocations"),
    "200 B, 16 connections": (16, 200, "invocations"),
    "1 MB, 4 connections": (4, 10**6, "invocations"),
    "stream of 100 x 1 KiB, 4 connections": (4, 200, "invocations-response-stream"),
}
LUA = """
local file = io.open(os.getenv("BODY"), "rb"); wrk.body = file:read("*a"); file:close()
wrk.method = "POST"; wrk.headers["Content-Type"] = "application/octet-stream"
wrk.headers["X-Amzn-SageMaker-Accept"] = "text/stream"
done = function(s, l, r)
  local e = s.errors
  io.write(string.format('WRK {"n": %d, "seconds": %f, "p50": %f, "p99": %f, "errors": %d}\\n',
    s.requests, s.duration / 1e6, l:percentile(50) / 1e3, l:percentile(99) / 1e3,
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


# ── the clients ──


class Answer:
    """A library's answer in the shape of `http_reply.Reply`."""

    def __init__(
        self, status: int, headers: list[tuple[bytes, bytes]], body: Any, end: Any
    ) -> None:
        self.status, self.headers, self._body, self._end = status, headers, body, end

    def header(self, name: bytes) -> str | None:
        return next((v.decode("latin-1") for n, v in self.headers if n == name), None)

    async def read(self, limit: int) -> bytes:
        parts, size = [], 0
        async for part in self:
            size += len(part)
            if size > limit:
                await self._end()
                raise OversizeError(f"its body is over {limit} bytes")
            parts.append(part)
        return b"".join(parts)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._body:
            yield part

    def close(self) -> None:
        asyncio.ensure_future(self._end())  # noqa: RUF006 - it ends by itself


def _split(head: bytes) -> tuple[str, str, dict[str, str]]:
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, path, _ = first.split(" ")
    headers = dict(line.split(": ", 1) for line in lines)
    return method, path, {n: v for n, v in headers.items() if n.lower() != "content-length"}


class AiohttpPool:
    """aiohttp's client behind the interface of `Pool`."""

    def __init__(self, port: int, host: str = "127.0.0.1", *, limit: int = CONNECTIONS) -> None:
        import aiohttp  # noqa: PLC0415 - one of the candidates

        self._lib, self.port, self._limit, self._busy = aiohttp, port, limit, 0
        self._url = f"http://{host}:{port}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )

    def __len__(self) -> int:
        return self._busy

    async def request(
        self, head: bytes, body: bytes = b"", *, timeout: float, expects_body: bool = True
    ) -> Any:
        if self._session.closed:
            raise UnreachableError("the container is being stopped")
        if self._busy >= self._limit:
            raise BusyError(f"{self._limit} requests are under way already")
        method, path, headers = _split(head)
        method = method if expects_body else "HEAD"
        times = self._lib.ClientTimeout(total=timeout, sock_connect=CONNECT_SECONDS)
        self._busy += 1
        try:
            with self._errors(timeout):
                answer = await self._session.request(
                    method, self._url + path, headers=headers, data=body or None, timeout=times,
                    allow_redirects=False,
                )  # fmt: skip
        finally:
            self._busy -= 1
        if answer.status < 200:
            answer.close()
            raise MalformedError("the container wants another protocol")

        async def pieces() -> AsyncIterator[bytes]:
            with self._errors(timeout):
                async for piece in answer.content.iter_any():
                    yield piece

        async def end() -> None:
            answer.close()

        raw = [(name.lower(), value) for name, value in answer.raw_headers]
        return Answer(answer.status, raw, pieces(), end)

    def close(self) -> None:
        asyncio.ensure_future(self._session.close())  # noqa: RUF006 - likewise

    @contextmanager
    def _errors(self, timeout: float) -> Iterator[None]:
        lib = self._lib
        try:
            yield
        except lib.ClientConnectorError as error:
            raise UnreachableError(f"no connection to port {self.port}: {error}") from error
        except TimeoutError as error:
            raise OverdueError(f"no whole answer in {timeout:.0f} s") from error
        except (lib.ServerDisconnectedError, lib.ClientPayloadError) as error:
            raise BrokenError(f"the connection ended before the answer did: {error}") from error
        except lib.ClientResponseError as error:
            raise MalformedError(f"the answer is not HTTP: {error}") from error
        except (lib.ClientError, OSError) as error:
            raise BrokenError(f"the connection ended before the answer did: {error}") from error


class HttpxPool:
    """httpx's client behind the interface of `Pool`."""

    def __init__(self, port: int, host: str = "127.0.0.1", *, limit: int = CONNECTIONS) -> None:
        import httpx  # noqa: PLC0415 - one of the candidates

        self._lib, self.port = httpx, port
        limits = httpx.Limits(max_connections=limit, max_keepalive_connections=limit)
        self._client = httpx.AsyncClient(
            base_url=f"http://{host}:{port}", limits=limits, trust_env=False
        )

    async def request(
        self, head: bytes, body: bytes = b"", *, timeout: float, expects_body: bool = True
    ) -> Any:
        method, path, headers = _split(head)
        method = method if expects_body else "HEAD"
        times = self._lib.Timeout(timeout, connect=CONNECT_SECONDS, pool=0.001)
        request = self._client.build_request(
            method, path, headers=headers, content=body, timeout=times
        )
        with self._errors(timeout):
            answer = await self._client.send(request, stream=True)

        async def pieces() -> AsyncIterator[bytes]:
            with self._errors(timeout):
                async for piece in answer.aiter_raw():
                    yield piece

        raw = [(name.lower(), value) for name, value in answer.headers.raw]
        return Answer(answer.status_code, raw, pieces(), answer.aclose)

    def close(self) -> None:
        asyncio.ensure_future(self._client.aclose())  # noqa: RUF006 - likewise

    @contextmanager
    def _errors(self, timeout: float) -> Iterator[None]:
        lib = self._lib
        try:
            yield
        except (lib.ConnectError, lib.ConnectTimeout) as error:
            raise UnreachableError(f"no connection to port {self.port}: {error}") from error
        except lib.PoolTimeout as error:
            raise BusyError("too many requests are under way") from error
        except lib.TimeoutException as error:
            raise OverdueError(f"no whole answer in {timeout:.0f} s") from error
        except lib.RemoteProtocolError as error:
            raise MalformedError(f"the answer is not HTTP: {error}") from error
        except lib.TransportError as error:
            raise BrokenError(f"the connection ended before the answer did: {error}") from error


POOLS: Mapping[str, Any] = {"ours": Pool, "aiohttp": AiohttpPool, "httpx": HttpxPool}


# ── the stub container ──


class Stub(asyncio.Protocol):
    """Sends each body back; in pieces, if the request accepts text/stream."""

    def connection_made(self, transport: Any) -> None:
        self._transport, self._data = transport, b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, found, body = self._data.partition(b"\r\n\r\n")
        if not found:
            return
        lines = head.lower().split(b"\r\n")
        length = next((int(x[15:]) for x in lines if x.startswith(b"content-length:")), 0)
        if len(body) < length:
            return
        self._data = body[length:]
        if b"accept: text/stream" in lines:
            self._transport.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(PIECES):
                self._transport.write(b"%x\r\n%s\r\n" % (len(STREAM), STREAM))
            self._transport.write(b"0\r\n\r\n")
        else:
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (length, body[:length])
            )


def serve_stub(port: int) -> None:
    import uvloop  # noqa: PLC0415 - in this process alone

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Stub, "127.0.0.1", port)
        await server.serve_forever()

    uvloop.run(main())


class StubContainer:
    def __init__(self, port: int) -> None:
        self._process = subprocess.Popen([sys.executable, __file__, "--stub", str(port)])

    def lines(self) -> Iterator[str]:
        self._process.wait()
        yield from ()

    def exit_code(self) -> int | None:
        return self._process.poll()

    def wait(self) -> int:
        return self._process.wait()

    def stop(self, grace: float) -> None:  # noqa: ARG002 - of the protocol
        self.close()

    def fetch(self, relative: str, on_left: OnLeft) -> None: ...

    def collect(self, on_left: OnLeft) -> None: ...

    def keep(self) -> str:
        return ""

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class StubEngine:
    name, shares_files, protects_inputs, interface = "process", True, True, "lo"

    def start(self, spec: ContainerSpec) -> Container:
        assert spec.port is not None
        return StubContainer(spec.port)

    def gateway(self, network: Network | None) -> str | None:  # noqa: ARG002 - of the protocol
        return None

    def open_network(self, network: Network) -> None: ...

    def close_network(self, network: Network) -> None: ...

    def sweep(self, labels: Mapping[str, str], trees: Sequence[Tree]) -> int:  # noqa: ARG002 - of the protocol
        return 0


# ── the measurement ──


def serve_region(client: str, state: str) -> None:
    instance.Pool = POOLS[client]  # type: ignore[misc]
    region_module._make_engine = lambda *_: StubEngine()  # type: ignore[assignment]  # noqa: SLF001 - a stub in the place of an engine
    with region_module.Region(state, is_open=True) as region:
        print(json.dumps({"url": region.url}), flush=True)
        sys.stdin.read()


@contextmanager
def running(client: str) -> Iterator[tuple[str, int]]:
    """Yield the URL of an endpoint and the process id of its region."""
    command = [sys.executable, __file__, "--serve", client]
    with (
        tempfile.TemporaryDirectory(prefix="byoc-") as state,
        subprocess.Popen([*command, state], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child,
    ):
        assert child.stdin is not None
        assert child.stdout is not None
        url = json.loads(child.stdout.readline())["url"]
        keys = read_keys(Path(state))
        assert keys is not None
        sagemaker = make_client("sagemaker", url, keys)
        role = "arn:aws:iam::000000000000:role/SageMakerRole"
        image = {"Image": "byoc-serve"}
        sagemaker.create_model(ModelName="m", PrimaryContainer=image, ExecutionRoleArn=role)
        variant = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.m5.large"}
        sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
        sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="c")
        sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="e")
        yield f"{url}/endpoints/e", child.pid
        child.stdin.close()
        child.wait(60)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def wrk(url: str, connections: int, body: Path, seconds: int) -> dict[str, float]:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout=30s"]
    text = subprocess.run(
        [*command, "-s", str(body.with_name("wrk.lua")), url],
        env={**os.environ, "BODY": str(body)}, stdout=subprocess.PIPE, text=True, check=True,
    ).stdout  # fmt: skip
    row: dict[str, float] = json.loads(
        next(line for line in text.splitlines() if line.startswith("WRK"))[4:]
    )
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", nargs=2, metavar=("CLIENT", "STATE"))
    parser.add_argument("--stub", type=int, metavar="PORT")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=2)
    options = parser.parse_args()
    if options.stub:
        serve_stub(options.stub)
        return
    if options.serve:
        serve_region(*options.serve)
        return
    rows: dict[tuple[str, str], list[dict[str, float]]] = {}
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        Path(folder, "wrk.lua").write_text(LUA)
        places = {client: stack.enter_context(running(client)) for client in POOLS}
        for number in range(options.rounds):
            for workload, (connections, size, path) in WORKLOADS.items():
                body = Path(folder, "body")
                body.write_bytes(b"x" * size)
                for client in [*places][:: 1 if number % 2 else -1]:
                    url, pid = places[client]
                    before = cpu_seconds(pid)
                    row = wrk(f"{url}/{path}", connections, body, options.seconds)
                    row["cpu"] = 1e6 * (cpu_seconds(pid) - before) / max(1, row["n"])
                    row["rps"] = row["n"] / row["seconds"]
                    rows.setdefault((workload, client), []).append(row)
    print("| workload | client | req/s | p50 / p99 ms | region CPU, µs per request | errors |")
    print("|---|---|---|---|---|---|")
    for (workload, client), found in rows.items():
        rps, p50, p99, cpu = (
            statistics.median(row[key] for row in found) for key in ("rps", "p50", "p99", "cpu")
        )
        errors = sum(row["errors"] for row in found)
        print(
            f"| {workload} | {client} | {rps:,.0f} | {p50:.2f} / {p99:.1f} | {cpu:.0f} "
            f"| {errors:.0f} |"
        )


if __name__ == "__main__":
    main()
