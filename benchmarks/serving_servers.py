"""The servers of serving.py and how each is started; `{port}` in a command is filled in."""

from __future__ import annotations

import functools
import site
import sys
import venv
from dataclasses import dataclass, field
from pathlib import Path

APPS = Path(__file__).parent / "serving_apps"
PACKAGED = APPS / "packaged"
ALL = ("w1", "w2", "w3", "w4")
BATCHES = {"BATCH": "32"}
STOCK = "ours, the handler as people write it"
BATCH = "ours, `batch = 32`"
FASTAPI = "FastAPI + uvicorn, 2 processes"
TORCHSERVE_BATCHES = "TorchServe, batches of 32"


@dataclass
class Server:
    name: str
    command: list[str]
    environ: dict[str, str] = field(default_factory=dict)
    workloads: tuple[str, ...] = ALL
    paths: tuple[str, ...] = ()
    """Folders to import from, beside that of the workload."""
    handler: str = "inference.py"
    """The file of serving_apps that the model's archive holds as code/inference.py."""
    is_packaged: bool = False
    makes_batches: bool = False


@functools.cache
def _python(peers: Path | None) -> str:
    """Return an interpreter with what this one has, and gunicorn's parser in C, as in the image.

    An environment for it, because the server's HTTP process does not read PYTHONPATH.
    """
    if peers is None or not (peers / "parser").is_dir():
        return sys.executable
    venv.create(peers / "image", clear=True, symlinks=True)
    folders = [str(peers.absolute() / "parser"), *site.getsitepackages()]
    lines = [f"import site; site.addsitedir({folder!r})\n" for folder in folders]
    packages = next((peers / "image").glob("lib/python3*/site-packages"))
    (packages / "image.pth").write_text("".join(lines))
    return str(peers.absolute() / "image/bin/python")


def servers(peers: Path | None) -> list[Server]:
    """Return ours and those of `peers`, a folder made by scripts/peers-env, that it holds."""
    python = _python(peers)
    ours = [python, "-m", "sagemaker_byoc.serving", "serve"]
    bare = [python, "-m", "gunicorn", "--no-control-socket", "--log-level", "warning"]
    bare += ["-k", "asgi", "-w", "2", "--bind", "127.0.0.1:{port}", "raw:app"]
    found = [
        Server(STOCK, ours),
        Server(BATCH, ours, handler="inference_batch.py"),
        Server("bare ASGI, gunicorn's asgi worker, model inline, 2 processes", bare),
    ]
    if peers is not None and (peers / "fast").is_dir():
        found += _fast(str(peers / "fast"))
    if peers is not None:
        found += [each for each in _packaged(peers / "packaged") if Path(each.command[0]).exists()]
    return found


def servers_by_kind() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the packaged servers that make no batches, and of all packaged ones."""
    found = _packaged(Path())
    single = tuple(each.name for each in found if not each.makes_batches)
    return single, tuple(each.name for each in found)


def _fast(folder: str) -> list[Server]:
    """Return the model inline in other ASGI servers; `folder` holds their packages."""
    granian = [sys.executable, "-m", "granian", "--interface", "asgi", "--host", "127.0.0.1"]
    granian += ["--port", "{port}", "--workers", "2", "--loop", "uvloop", "--http", "1"]
    granian += ["--no-ws", "--no-access-log", "--log-level", "warning", "raw:app"]
    uvicorn = [sys.executable, "-m", "uvicorn", "fast:app", "--port", "{port}", "--workers", "2"]
    uvicorn += ["--no-access-log", "--log-level", "warning"]
    return [
        Server("granian, model inline, 2 workers", granian, paths=(folder,)),
        Server(FASTAPI, uvicorn, paths=(folder,)),
    ]


def _packaged(folder: Path) -> list[Server]:
    """Return servers that people install instead of ours; `folder` has an environment for each."""

    def python(environment: str, program: str) -> list[str]:
        return [str(folder / environment / "bin/python"), str(PACKAGED / program), "{port}"]

    def packaged(name: str, command: list[str]) -> Server:
        return Server(name, command, paths=(str(PACKAGED),), is_packaged=True)

    def batches(name: str, command: list[str]) -> Server:
        """Return it for w4, the workload whose rows gain from a common forward pass."""
        paths = (str(PACKAGED),)
        return Server(name, command, BATCHES, ("w4",), paths, is_packaged=True, makes_batches=True)

    bento = [str(folder / "bentoml/bin/bentoml"), "serve", "bento:Net", "--working-dir"]
    bento += [str(PACKAGED), "--host", "127.0.0.1", "--port", "{port}"]
    lit = python("litserve", "lit.py")
    torchserve = python("torchserve", "torchserve_net.py")
    mlserver = python("mlserver", "mlserver_net.py")
    return [
        packaged("LitServe, 2 workers", lit),
        batches("LitServe, batches of 32", lit),
        packaged("BentoML, 2 workers", bento),
        batches("BentoML, batches of 32", bento),
        packaged("MLServer", mlserver),
        packaged("TorchServe, 2 workers", torchserve),
        batches(TORCHSERVE_BATCHES, torchserve),
    ]
