"""Small foreign images: for each its Dockerfile, its one planted defect or none, and the verdict.

test_check_foreign.py checks them; benchmarks/check.py asks other tools about the same ones.
"""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.images.containers import docker

PROGRAM = Path(__file__).parent / "foreign" / "program.c"
PREFIX = "byoc-foreign-small"
BASE = f"{PREFIX}-base"

_SHELL = b"#!/bin/sh\nexec program train\n"
BASE_DOCKERFILE = """
FROM byoc-base AS debian
FROM scratch
COPY --from=debian /bin/dash /bin/sh
COPY --from=debian /bin/dash /bin/bash
COPY --from=debian /bin/cat /bin/mkdir /bin/ln /bin/rm /bin/sleep /bin/
COPY --from=debian /usr/bin/env /usr/bin/env
COPY --from=debian /lib64/ld-linux-x86-64.so.2 /lib64/
COPY --from=debian /lib/x86_64-linux-gnu/libc.so.6 /lib/x86_64-linux-gnu/libselinux.so.1 \\
     /lib/x86_64-linux-gnu/libpcre2-8.so.0 /lib/x86_64-linux-gnu/
COPY program /usr/local/bin/program
"""
SERVER_PY = b'''"""A server of the standard library, as small services are written."""
import json
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        return b"".join(parts)

    def answer(self, status, document):
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        self.answer(200 if self.path == "/ping" else 404, {})

    def do_POST(self):
        if int(self.headers.get("Content-Length") or 0) > 100_000_000:
            self.answer(413, {})
            self.connection.shutdown(1)
            while self.connection.recv(65536):
                pass
            return
        kind = self.headers.get("Content-Type", "").partition(";")[0]
        known = kind in {"application/json", "text/csv", "application/octet-stream"}
        self.answer(200, [len(self.body())]) if known else self.answer(415, {})

class Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 128

server = Server(("0.0.0.0", 8080), Handler)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever(0.05)
server.server_close()
'''


TRAIN_PY = b'''#!/usr/bin/env python3
"""A `train` as AWS's samples have it, without their faults."""
import json
import os
import signal
import sys
import time
import traceback

def stop(*_):
    sys.exit(143)

signal.signal(signal.SIGTERM, stop)
try:
    print("training", flush=True)
    with open("/opt/ml/input/config/hyperparameters.json") as file:
        parameters = json.load(file)
    with open("/opt/ml/input/config/resourceconfig.json") as file:
        cluster = json.load(file)
    time.sleep(float(parameters.get("seconds", 2)))
    if cluster["current_host"] == cluster["hosts"][0]:
        with open("/opt/ml/model/model.json", "w") as file:
            json.dump({"bias": 1.5}, file)
except Exception as error:
    with open("/opt/ml/output/failure", "w") as file:
        file.write(f"{error!r}\\n{traceback.format_exc()}")
    sys.exit(1)
'''


def _elf(machine: int, interpreter: bytes = b"") -> bytes:
    """A 64-bit ELF header; with an interpreter, the one program header that names it."""
    count = 1 if interpreter else 0
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack(
        "<HHIQQQIHHHHHH", 2, machine, 1, 0x400078, 64, 0, 0, 64, 56, count, 0, 0, 0
    )
    if not interpreter:
        return header + bytes(64)
    place, size = 64 + 56, len(interpreter) + 1
    return (
        header
        + struct.pack("<IIQQQQQQ", 3, 4, place, place, place, size, size, 1)
        + interpreter
        + b"\0"
    )


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """One image; `found` are the ids of all findings, `role` what it is checked for."""

    name: str
    dockerfile: str
    defect: str = ""
    found: frozenset[str] = frozenset()
    files: Mapping[str, bytes] = field(default_factory=dict)
    modes: Mapping[str, int] = field(default_factory=dict)
    role: str = "train"
    platform: str = "linux/amd64"
    options: Sequence[str] = ()
    exit_code: int | None = None
    """1 if there is a defect and this is None."""

    @property
    def image(self) -> str:
        return f"{PREFIX}-{self.name}:latest"

    @property
    def expected(self) -> int:
        return self.exit_code if self.exit_code is not None else int(bool(self.defect))


def train(name: str, dockerfile: str, defect: str = "", found: str = "", **more: object) -> Foreign:
    return _make(name, dockerfile, defect, found, {"role": "train", **more})


def serve(name: str, dockerfile: str, defect: str = "", found: str = "", **more: object) -> Foreign:
    return _make(name, dockerfile, defect, found, {"role": "serve", **more})


def _make(
    name: str, dockerfile: str, defect: str, found: str, more: Mapping[str, object]
) -> Foreign:
    text = dockerfile if dockerfile.startswith("FROM") else f"FROM {BASE}\n{dockerfile}"
    return Foreign(
        name=name, dockerfile=text, defect=defect, found=frozenset(found.split()), **more
    )


def _entry(name: str, defect: str, entry: bytes, found: str, mode: int = 0o755) -> Foreign:
    text = 'COPY entry /entry\nENTRYPOINT ["/entry"]\n'
    return train(name, text, defect, found, files={"entry": entry}, modes={"entry": mode})


def _zoo(words: str) -> str:
    return f'ENV ZOO="{words}"\nENTRYPOINT ["/usr/local/bin/program"]\n'


def _python(text: str) -> str:
    return (
        f'FROM byoc-base\nCOPY server.py /server.py\n{text}ENTRYPOINT ["python3", "/server.py"]\n'
    )


_ON_PATH = "COPY program /usr/local/bin/train\nCOPY program /usr/local/bin/serve\n"
_MODEL = ("--model", "model")
_CAPABLE = "com.amazonaws.sagemaker.capabilities"
_NO_LIBGL = b"""#!/bin/sh
echo 'Traceback (most recent call last):' >&2
echo 'ImportError: libGL.so.1: cannot open shared object file: No such file or directory' >&2
echo 'ImportError: libGL.so.1' > /opt/ml/output/failure
exit 1
"""

GOOD = (
    train("static-train", 'FROM scratch\nCOPY program /program\nENTRYPOINT ["/program"]\n'),
    serve("static-serve", 'FROM scratch\nCOPY program /program\nENTRYPOINT ["/program"]\n'),
    train("on-path", f"FROM scratch\n{_ON_PATH}"),
    serve("python", _python(""), files={"server.py": SERVER_PY}),
    train("classic", "FROM byoc-base\nCOPY train /usr/local/bin/train\n",
          files={"train": TRAIN_PY}, modes={"train": 0o755}),
    train("tini", 'COPY program /tini\nENTRYPOINT ["/tini", "--", "program"]\n'),
    train("wrapper", 'COPY entry /entry\nENTRYPOINT ["/entry"]\n',
          files={"entry": b'#!/bin/sh\nset -e\nexec program "$@"\n'}, modes={"entry": 0o755}),
    train("exec-last", 'ENTRYPOINT ["sh", "-c", "cd /usr/local/bin && exec ./program train"]\n'),
    train("env-shebang", "COPY train /usr/local/bin/train\n",
          files={"train": _SHELL.replace(b"/bin/sh", b"/usr/bin/env sh")}, modes={"train": 0o755}),
    train("folder", 'WORKDIR /app\nCOPY program run\nENTRYPOINT ["./run"]\n'),
    train("dots", "COPY program /opt/tool/train\nENV PATH=/opt/../opt/tool:/usr/bin/../../bin\n"),
    train("linked", "COPY program /opt/train-1.0\n"
          "RUN ln -s ../../../opt/train-1.0 /usr/local/bin/train\n"),
    serve("multi-stage", f"FROM {BASE} AS build\nRUN cat /usr/local/bin/program > /dev/null\n"
          'FROM scratch\nCOPY --from=build /usr/local/bin/program /srv/program\n'
          'ENTRYPOINT ["/srv/program"]\n'),
    serve("health", f'HEALTHCHECK CMD cat /dev/null\nONBUILD COPY . /\nEXPOSE 8080\n{_zoo("")}'),
    serve("needs-model", _zoo("model=needed"), options=_MODEL),
    train("long", _zoo("seconds=99"), options=("--train-timeout", "3")),
    train("flood", _zoo("flood")),
    train("ml-link", 'RUN ["/bin/sh", "-c", "mkdir -p /data/ml /opt && ln -s /data/ml /opt/ml"]\n'
          + _zoo("")),
)  # fmt: skip
"""No finding of any kind."""

DEFECTS = (
    # what the kernel and runc do with the entry
    _entry("crlf", "a script with CR LF line ends", _SHELL.replace(b"\n", b"\r\n"),
           "IMG009 TRN001"),
    _entry("crlf-body", "a script whose commands end in CR LF",
           b"#!/bin/sh\nset -e\r\nexec program train\r\n", "IMG009 TRN001"),
    _entry("no-shebang", "a script without #!", b"exec program train\n", "IMG009 TRN001"),
    _entry("bom", "a script with a byte order mark", b"\xef\xbb\xbf" + _SHELL, "IMG009 TRN001"),
    _entry("empty", "an empty program", b"", "IMG009 TRN001"),
    _entry("mode", "a program without x bit", _SHELL, "IMG009 TRN001", mode=0o644),
    _entry("arm-elf", "a program for another machine", _elf(183), "IMG009 TRN001"),
    _entry("no-loader", "a program whose ELF loader is missing",
           _elf(62, b"/lib/ld-musl-x86_64.so.1"), "IMG009 TRN001"),
    _entry("no-interpreter", "a script whose interpreter is missing",
           b"#!/usr/bin/python9\n", "IMG009 TRN001"),
    _entry("no-env-program", "a script whose `env` program is missing",
           b"#!/usr/bin/env python9\n", "IMG009 TRN001"),
    train("no-entry", 'ENTRYPOINT ["/opt/entry"]\n', "ENTRYPOINT names no file", "IMG009 TRN001"),
    train("no-train", "ENV ZOO=\n", "neither ENTRYPOINT nor `train`", "IMG007 TRN001"),
    train("path-mode", "COPY entry /usr/local/bin/train\n", "`train` on PATH without x bit",
          "IMG008 TRN001", files={"entry": _SHELL}),
    train("shell-form", "ENV ZOO=seconds=5\nENTRYPOINT program train; cat /dev/null\n",
          "ENTRYPOINT in shell form", "IMG006 TRN004 TRN007"),
    train("bash-lc", 'ENV ZOO=seconds=5\n'
          'ENTRYPOINT ["bash", "-lc", "program train; cat /dev/null"]\n',
          "ENTRYPOINT is a shell's -lc", "IMG006 TRN004 TRN007", exit_code=1),
    train("single-quotes", "ENTRYPOINT ['/usr/local/bin/program']\n",
          "ENTRYPOINT in single quotes", "IMG006 TRN001"),
    train("no-exec", 'ENV ZOO=seconds=5\nCOPY entry /entry\nENTRYPOINT ["/entry"]\n',
          "a wrapper without exec", "TRN007", modes={"entry": 0o755},
          files={"entry": b'#!/bin/sh\nset -e\nprogram "$@"\necho done\n'}),
    train("init-alone", 'COPY program /tini\nENTRYPOINT ["/tini", "--"]\n',
          "an init alone, and no `train`", "IMG007 IMG010 TRN001"),
    # trainers
    train("no-model", _zoo("model=none"), "no model", "TRN005", exit_code=0),
    train("elsewhere", _zoo("model=/tmp-model"), "the model in another folder", "TRN005",
          exit_code=0),
    train("no-failure", _zoo("raise=late failure=none"), "fails without a failure file",
          "TRN002 TRN003", exit_code=0),
    train("exit-0", _zoo("raise=late exit=0"), "exit code 0 after an exception", "TRN004 TRN005"),
    train("term", _zoo("term=ignore seconds=6"), "SIGTERM is not handled", "TRN007"),
    train("forks", _zoo("fork"), "the first process leaves its child", "TRN005", exit_code=0),
    train("failure-long", _zoo("raise=late failure=long"), "a failure file of 1,500 characters",
          "TRN002 TRN006", exit_code=0),
    train("one-host", _zoo("hosts=one"), "fails on two hosts", "TRN008", exit_code=0),
    train("all-hosts", _zoo("hosts=all"), "each host writes its own model", "TRN009", exit_code=0),
    train("no-libgl", 'COPY entry /entry\nENTRYPOINT ["/entry"]\n',
          "a library of a module is missing",
          "TRN010", modes={"entry": 0o755}, files={"entry": _NO_LIBGL}),
    train("needs-data", _zoo("data=needed"), "needs a channel", "TRN002", exit_code=0),
    serve("user", f'USER 1000\n{_zoo("")}', "does not run as root", "IMG011", exit_code=0),
    train("no-user", f'USER trainer\n{_zoo("")}', "a user that does not exist", "IMG015 TRN001"),
    train("ml-files", f'COPY entry /opt/ml/model/other.bin\n{_zoo("")}',
          "a model under /opt/ml", "IMG012", files={"entry": b"x"}, exit_code=0),
    train("volume", f'VOLUME /opt/ml/model\n{_zoo("")}', "a volume under /opt/ml", "IMG013",
          exit_code=0),
    train("ml-file", f'COPY entry /opt/ml\n{_zoo("")}', "/opt/ml is a file", "IMG016 TRN001",
          files={"entry": b"x"}),
    train("arm64", 'FROM scratch\nCOPY program /program\nENTRYPOINT ["/program"]\n',
          "an image for another machine", "IMG003", platform="linux/arm64"),
    train("cuda-14", f"ENV CUDA_VERSION=14.1.0\n{_zoo('')}", "a CUDA that no host has", "CUD001"),
    train("cuda-13", f"ENV CUDA_VERSION=13.0.2\n{_zoo('')}", "a CUDA that few hosts have", "CUD002",
          exit_code=0),
    # secrets
    train("secret-env", f'ENV DATABASE_PASSWORD=tr0ub4dor-and-3\n{_zoo("")}',
          "a password in ENV", "SEC001"),
    train("secret-argument", f"ARG PIP_TOKEN=abcdef1234567890abcd\nRUN cat /dev/null\n{_zoo('')}",
          "a token in a build argument", "SEC002"),
    train("secret-deleted", f'COPY key /root/.aws/credentials\nRUN rm /root/.aws/credentials\n'
          f'{_zoo("")}', "a key in a layer that a later one deletes", "SEC003",
          files={"key": b"[default]\naws_access_key_id = AKIAABCDEFGHIJKLMNOP\n"
                 b"aws_secret_access_key = abcdefghijabcdefghijabcdefghijabcdefghij\n"}),
    # servers
    serve("returns", _zoo("start=return"), "`serve` returns at once", "SRV001"),
    serve("no-module", _python(""), "a Python module is missing", "SRV023",
          files={"server.py": b"import flask_of_nobody\n"}),
    serve("no-library", f"FROM {BASE} AS whole\nFROM scratch\n"
          "COPY --from=whole /lib64 /lib64\nCOPY --from=whole /bin/mkdir /bin/mkdir\n"
          "COPY --from=whole /lib/x86_64-linux-gnu/libc.so.6 /lib/x86_64-linux-gnu/\n"
          'ENTRYPOINT ["/bin/mkdir"]\n', "a shared library is missing", "SRV001"),
    serve("no-log-folder", _zoo("start=log"), "a folder for logs is missing", "SRV023"),
    serve("local-host", _zoo("host=local"), "listens on 127.0.0.1", "SRV003 SRV022"),
    serve("port", f'EXPOSE 9000\n{_zoo("port=9000")}', "listens on port 9000",
          "IMG014 SRV003 SRV022"),
    serve("ping-500", _zoo("ping=500"), "/ping answers 500", "SRV002", options=_MODEL),
    serve("ping-204", _zoo("ping=204"), "/ping answers 204, with no model asked for", "SRV002"),
    serve("dies", _python(""), "a request ends the server", "SRV024", files={
        "server.py": SERVER_PY.replace(b"    def do_POST(self):\n", b"    def do_POST(self):\n"
                                       b"        import os\n        os._exit(3)\n")}),
    serve("ping-slow", _zoo("ping=slow"), "/ping takes 3 s", "SRV002", options=_MODEL),
    serve("ping-hangs", _zoo("ping=hang"), "/ping hangs", "SRV002", options=_MODEL),
    serve("loads-long", _zoo("load=60"), "the model loads for longer than allowed", "SRV002",
          options=_MODEL),
    serve("no-invocations", _zoo("invoke=none"), "no /invocations", "SRV020"),
    serve("hangs", _zoo("invoke=hang"), "/invocations hangs", "SRV020"),
    serve("charset", _zoo("charset=no"), "a charset is refused", "SRV007"),
    serve("limit", _zoo("limit=1000000"), "bodies of over 1 MB are refused", "SRV008"),
    serve("type-crash", _zoo("types=crash"), "500 for an unknown type", "SRV011", exit_code=0),
    serve("chunked", _zoo("chunked=no"), "chunked bodies are refused", "SRV012", exit_code=0),
    serve("no-type", _zoo("type=none"), "replies without Content-Type", "SRV013", exit_code=0),
    serve("one-worker", _zoo("workers=one slow"), "one synchronous worker", "SRV006", exit_code=0),
    serve("term-drop", _zoo("term=drop"), "SIGTERM does not reach the server", "SRV015"),
    serve("term-ignore", _zoo("term=ignore"), "SIGTERM is ignored", "SRV015"),
    serve("term-cut", _zoo("term=cut slow=1500"), "SIGTERM cuts requests", "SRV016"),
    serve("term-code", _zoo("term=code"), "exit code 1 after SIGTERM", "SRV017", exit_code=0),
    serve("without-model", _zoo("model=needed"), "needs a model, and got none", "SRV022",
          exit_code=0),
    serve("late-model", _zoo("model=late"), "/ping is 200 with a damaged model", "SRV005",
          options=(*_MODEL, "--payload", "rows.csv", "--content-type", "text/csv")),
    serve("payload", _zoo("types=none"), "the payload's type is refused", "SRV021",
          options=("--payload", "rows.csv", "--content-type", "text/csv")),
    serve("limit-10", _zoo("limit=10000000"), "bodies of over 10 MB are refused", "SRV009",
          exit_code=0),
    serve("large-cut", _zoo("large=cut"), "a body that is too large is cut off", "SRV010",
          exit_code=0),
    serve("parameters", _zoo("parameters=text"), "/execution-parameters has text for a number",
          "SRV014"),
    serve("port-label", f"LABEL {_CAPABLE}.accept-bind-to-port=true\n{_zoo('')}",
          "offers another port, and does not listen there", "SRV018"),
    serve("models-label", f"LABEL {_CAPABLE}.multi-models=true\n{_zoo('')}",
          "offers several models, and has no /models", "SRV019"),
    serve("stopsignal", f'STOPSIGNAL SIGKILL\n{_zoo("")}', "STOPSIGNAL SIGKILL", "IMG017",
          exit_code=0),
)  # fmt: skip

ALL = (*GOOD, *DEFECTS)


def compiled(folder: Path) -> Path:
    """The static program, which most of the images hold."""
    made = folder / "program"
    command = ["gcc", "-static", "-O1", "-pthread", "-s", "-Wall", "-Werror", "-o", made, PROGRAM]
    subprocess.run(command, check=True, timeout=120)
    return made


def build_all(chosen: Sequence[Foreign], folder: Path) -> None:
    """A few at a time; an AssertionError has the builder's words."""
    program = compiled(folder)
    _build_base(program, folder)
    with ThreadPoolExecutor(4) as builders:
        for _ in builders.map(lambda foreign: _build(foreign, program, folder), chosen):
            pass


def _build(foreign: Foreign, program: Path, folder: Path) -> None:
    context = folder / foreign.name
    context.mkdir()
    (context / "Dockerfile").write_text(foreign.dockerfile)
    os.link(program, context / "program")
    for name, data in foreign.files.items():
        (context / name).write_bytes(data)
        (context / name).chmod(foreign.modes.get(name, 0o644))
    docker("build", "-q", "--platform", foreign.platform, "--tag", foreign.image, str(context))


def _build_base(program: Path, folder: Path) -> None:
    context = folder / "base"
    context.mkdir()
    (context / "Dockerfile").write_text(BASE_DOCKERFILE)
    os.link(program, context / "program")
    docker("build", "--quiet", "--tag", BASE, str(context))
