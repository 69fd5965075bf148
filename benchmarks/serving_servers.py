"""The servers of serving.py and how each is started; `{port}` in a command is filled in."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

APPS = Path(__file__).parent / "serving_apps"
PACKAGED = APPS / "packaged"
ALL = ("w1", "w2", "w3", "w4")
BATCHES = {"BATCH": "32"}


@dataclass
class Server:
    name: str
    command: list[str]
    environ: dict[str, str] = field(default_factory=dict)
    workloads: tuple[str, ...] = ALL
    paths: tuple[str, ...] = ()
    """Folders to import from, beside that of the workload."""


def servers(peers: str | None, packaged: Path | None) -> list[Server]:
    python = sys.executable
    ours = [python, "-m", "sagemaker_byoc.serving", "serve"]
    bare = [python, "-m", "gunicorn", "--no-control-socket", "--log-level", "warning"]
    bare += ["-k", "asgi", "-w", "2", "--bind", "127.0.0.1:{port}", "raw:app"]
    found = [
        Server("ours", ours),
        Server("ours, no batches", ours, {"BYOC_BATCH": "1"}),
        Server("bare ASGI, model inline, 2 processes", bare),
    ]
    if peers:
        uvicorn = [python, "-m", "uvicorn", "fast:app", "--port", "{port}", "--workers", "2"]
        quiet = ["--no-access-log", "--log-level", "warning"]
        name = "FastAPI + uvicorn, 2 processes"
        found.append(Server(name, [*uvicorn, *quiet], paths=(peers,)))
    if packaged is not None:
        found += _packaged(packaged)
    return found


def _packaged(folder: Path) -> list[Server]:
    """Servers that people install instead of ours; `folder` has an environment for each."""

    def python(environment: str, program: str) -> list[str]:
        return [str(folder / environment / "bin/python"), str(PACKAGED / program), "{port}"]

    bento = [str(folder / "bentoml/bin/bentoml"), "serve", "bento:Net", "--working-dir"]
    bento += [str(PACKAGED), "--host", "127.0.0.1", "--port", "{port}"]
    lit = python("litserve", "lit.py")
    torchserve = python("torchserve", "torchserve_net.py")
    mlserver = python("mlserver", "mlserver_net.py")
    paths = (str(PACKAGED),)
    return [
        Server("LitServe, 2 workers", lit, paths=paths),
        Server("LitServe, batches of 32", lit, BATCHES, ("w4",), paths),
        Server("BentoML, 2 workers", bento, paths=paths),
        Server("BentoML, batches of 32", bento, BATCHES, ("w4",), paths),
        Server("MLServer", mlserver, paths=paths),
        Server("TorchServe, 2 workers", torchserve, paths=paths),
        Server("TorchServe, batches of 32", torchserve, BATCHES, ("w4",), paths),
    ]
