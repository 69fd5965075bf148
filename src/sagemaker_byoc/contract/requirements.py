"""Install a program's requirements without replacing what the image promises.

Run inside an image, when it is built and when a job starts:

    python -I -m sagemaker_byoc.contract.requirements [--pip PROGRAM] [--constraints FILE]
        [--replace NAMES] [PIP'S ARGUMENTS ...]

pip gets a constraint for each package in HELD that is installed. `pip check` runs before and after:
a problem that is new is an error. The last line of stderr is the cause.
"""

from __future__ import annotations

import argparse
import codecs
import os
import re
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import distributions
from pathlib import Path

from sagemaker_byoc.contract.variables import REPLACE

FILE = "requirements.txt"
EVERYTHING = "all"
MARK = "requirements: "
"""Starts the line with the cause of a failure."""

_TORCH = (
    "torch",
    "torchvision",
    "torchaudio",
    "triton",
    "pytorch-triton*",
    "nvidia-*",
    "cuda-bindings",
    "cuda-pathfinder",
    "cuda-toolkit",
)
_EXACT = ("flask", "gunicorn", "orjson", "sagemaker-byoc", "sagemaker-training", "uvloop")
_MAJOR = ("numpy",)
HELD = (*_TORCH, *_EXACT, *_MAJOR)
"""What the images promise: torch and what belongs to its CUDA, the server, the toolkits."""

_BINARY = ("torchvision", "torchaudio")
"""Compiled against one torch, which their version does not name: they are imported once."""
_CPU_INDEX = "--extra-index-url https://download.pytorch.org/whl/cpu"
_LINES = 2000
"""Lines of pip's output that are searched for a cause."""
_LONGEST = 2**20
_LAST_WORDS = 3
_WANTED = re.compile(
    r"^ {4}(?:The user requested (?!\(constraint\))(?P<asked>.+)"
    r"|(?P<who>\S+ \S+) depends on (?P<needed>.+))$",
    re.MULTILINE,
)
_MISSING = re.compile(r"^ERROR: No matching distribution found for (?P<asked>.+)$", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DIRECT = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)\s*(?:\[[^\]]*\])?\s*@\s*\S")
_ARCHIVE = re.compile(
    r"(?:^|[/\\])(?P<name>[A-Za-z0-9][\w.-]*?)-\d[^/\\]*\.(?:whl|zip|tgz|tar\.(?:gz|bz2|xz))$"
)
_EGG = re.compile(r"[#&]egg=(?P<name>[A-Za-z0-9][\w.-]*)")
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""That of UTF-32 begins with that of UTF-16."""
_EDITABLE = re.compile(r"^(?:-e|--editable)[\s=]\s*")
_NESTED = re.compile(r"(?:-r|--requirement)[\s=]\s*(\S+)")
_PASSWORD = re.compile(r"(?<=://)[^/\s@]+@")
_USELESS = "ERROR: ResolutionImpossible"


class ConflictError(Exception):
    """The requirements can't be installed; the text names who asks for what."""


def canonical(name: str) -> str:
    """Return the one spelling of a distribution's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed() -> dict[str, str]:
    return {canonical(found.name): found.version for found in distributions() if found.name}


def held(packages: Mapping[str, str], replace: str = "") -> dict[str, str]:
    """Return version by name of what stays as it is; `replace` names what need not.

    Raise ConflictError for a name in `replace` that is not held: it would have no effect.
    """
    given = {canonical(word) for word in re.split(r"[\s,]+", replace) if word}
    found = {name: version for name, version in packages.items() if _group(name)}
    groups = {name: _group(name) for name in found}
    unknown = sorted(given - {EVERYTHING} - set(groups) - set(groups.values()))
    if unknown:
        raise ConflictError(
            f"{unknown[0]} is not held, so there is nothing to replace. Held are: "
            f"{', '.join(sorted(set(groups.values()))) or 'none'}; {EVERYTHING} names all"
        )
    if EVERYTHING in given:
        return {}
    return {
        name: version
        for name, version in found.items()
        if name not in given and groups[name] not in given
    }


def constraints(packages: Mapping[str, str]) -> list[str]:
    """Return a constraint for each held package: its version, numpy's major version."""
    lines = []
    for name, version in sorted(packages.items()):
        major = version.partition(".")[0]
        if name in _MAJOR and major.isdecimal():
            lines.append(f"{name}>={major},<{int(major) + 1}")
        else:
            lines.append(f"{name}=={version}")
    return lines


def cause(said: str, packages: Mapping[str, str]) -> str:
    """Return the cause of a failure from pip's output; `packages` are the held ones."""
    found = list(dict.fromkeys(_conflicts(said)))
    missing = [(FILE, match["asked"].strip()) for match in _MISSING.finditer(said)]
    ours = [(who, what) for who, what in (*found, *missing) if _name(what) in packages]
    if ours:
        return "; ".join(_refusal(who, what, packages) for who, what in ours)
    if found:
        return "conflict: " + "; ".join(f"{who} asks for {what}" for who, what in found)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")] or lines
    unique = [line for line in dict.fromkeys(errors) if not line.startswith(_USELESS)]
    return " ".join(unique[-_LAST_WORDS:]) or "pip said nothing"


def require_no_archives(file: Path, packages: Mapping[str, str]) -> None:
    """Raise ConflictError for a held package that a line takes from a URL or a file: pip would
    download and install it whatever its version is."""
    for line in _lines_of(file):
        plain = line.partition("#")[0].split(";")[0].strip()
        match = _DIRECT.match(line) or _EGG.search(line) or _ARCHIVE.search(plain)
        if match and (name := canonical(match["name"])) in packages:
            raise ConflictError(_refusal(FILE, f"another {name} ({line})", packages, name))


def install(
    arguments: Sequence[str], pip: Sequence[str], packages: Mapping[str, str], file: Path
) -> None:
    """Raise ConflictError with the cause if pip fails, or if what it installed does not fit."""
    require_no_archives(file, packages)
    there, before = installed(), set(_check(pip))
    code, said = _run([*pip, "install", *arguments])
    if code:
        raise ConflictError(cause(said, packages))
    new = [line for line in _check(pip) if line not in before]
    if new:
        raise ConflictError(
            f"what {FILE} asks for does not fit the other packages: {'; '.join(new)}"
        )
    for name, version in installed().items():
        if name in _BINARY and there.get(name) != version:
            _import(name, version)
    _warn_of_idle(there)


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="requirements", allow_abbrev=False)
    parser.add_argument("--pip", help="a pip outside this environment (default: its own)")
    parser.add_argument("--constraints", type=Path, help="where to keep the constraints")
    parser.add_argument("--replace", default="", metavar="NAMES")
    known, wanted = parser.parse_known_args(words)
    own = [sys.executable, "-I", "-m", "pip"]
    pip = [known.pip, "--python", sys.executable] if known.pip else own
    try:
        packages = held(installed(), known.replace)
        with tempfile.TemporaryDirectory(prefix="byoc-pip-") as scratch:
            path = known.constraints or Path(scratch, "constraints.txt")
            path.write_text("".join(f"{line}\n" for line in constraints(packages)))
            # Nothing to install: only the constraints are written, for a Dockerfile on top.
            wanted = wanted or (["--requirement", FILE] if Path(FILE).is_file() else [])
            if wanted:
                install(["--constraint", str(path), *wanted], pip, packages, Path(FILE))
    except (ConflictError, OSError) as error:
        print(f"{MARK}{hide_passwords(str(error))}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def hide_passwords(text: str) -> str:
    return _PASSWORD.sub("***@", text)


def _conflicts(said: str) -> Iterator[tuple[str, str]]:
    """Yield who asks for what, as pip's resolver prints it."""
    for match in _WANTED.finditer(said):
        yield match["who"] or FILE, (match["asked"] or match["needed"]).strip()


def _refusal(who: str, what: str, packages: Mapping[str, str], name: str = "") -> str:
    name = name or _name(what)
    group = _group(name)
    fitting = f"take the release of {who.partition(' ')[0]} that fits"
    ways = ["take that line out" if who == FILE else fitting]
    if group == _TORCH[0]:
        ways.append("choose the image's torch with --build-arg TORCH=…")
    ways.append(
        f"or allow it with --build-arg REPLACE={group} ({REPLACE}={group} when a job installs)"
    )
    return f"{who} asks for {what}, and this image holds {name} {packages[name]}: {'; '.join(ways)}"


def _name(requirement: str) -> str:
    match = _NAME.match(requirement)
    return canonical(match[0]) if match else ""


def _group(name: str) -> str:
    """Return the name that stands for `name` in --replace, or "" for what is not held."""
    if any(name == one or (one[-1] == "*" and name.startswith(one[:-1])) for one in _TORCH):
        return _TORCH[0]
    return name if name in HELD else ""


def _lines_of(first: Path) -> Iterator[str]:
    """Yield the requirements in a file and in those that it names, each file once."""
    left, seen = [first], {os.path.realpath(first)}
    while left:
        file = left.pop(0)
        try:
            with file.open("rb") as stream:
                data = stream.read(_LONGEST)
        except OSError:
            continue  # pip reports it
        lines = re.sub(r"\\\r?\n", " ", _decoded(data)).splitlines()
        for line in (_EDITABLE.sub("", line.strip()) for line in lines):
            nested = _NESTED.match(line)
            if nested and (name := os.path.realpath(file.parent / nested[1])) not in seen:
                seen.add(name)
                left.append(Path(name))
            elif line and line[0] not in "#-":
                yield line


def _decoded(data: bytes) -> str:
    """Return the text as pip reads it, by its byte order mark: PowerShell's > writes UTF-16."""
    found = (name for mark, name in _MARKS if data.startswith(mark))
    return data.decode(next(found, "utf-8"), errors="replace")


def _finished(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


def _check(pip: Sequence[str]) -> list[str]:
    done = _finished([*pip, "check"])
    return done.stdout.splitlines() if done.returncode else []


def _warn_of_idle(there: Mapping[str, str]) -> None:
    """Warn if NVIDIA's libraries came to a torch for the CPU, as those of a `pip freeze` do."""
    new = [name for name in installed() if name.startswith("nvidia-") and name not in there]
    if new and there.get(_TORCH[0], "").endswith("+cpu"):
        print(  # noqa: T201
            f"warning: {', '.join(new)}: this image's torch is for the CPU and does not use them; "
            f"unless another package does, take them out of {FILE}"
        )


def _import(name: str, version: str) -> None:
    done = _finished([sys.executable, "-I", "-c", f"import {name}"])
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise ConflictError(
            f"{name} {version} can't be imported: {last}. If it was built for another torch than "
            f"{installed().get(_TORCH[0], '')}: for one of the CPU add the line `{_CPU_INDEX}` to "
            f"{FILE}"
        )


def _run(command: Sequence[str]) -> tuple[int, str]:
    """Run pip with its output passed on line by line; return its exit code and last lines."""
    kept: deque[str] = deque(maxlen=_LINES)
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        kept.extend(_passed_on(process.stdout or ()))
    return process.returncode, "".join(kept)


def _passed_on(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        sys.stdout.write(line)
        sys.stdout.flush()
        yield line


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
