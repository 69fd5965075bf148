"""The user's program: which file of the source folder, and the command that starts it.

A program that is not written in Python is checked before it starts.
"""

from __future__ import annotations

import ast
import os
import re
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.lifecycle import first_names
from sagemaker_byoc.contract.training.job import Job
from sagemaker_byoc.contract.variables import PROGRAM, PROGRAM_DIR
from sagemaker_byoc.training.supervisor.program.options import parse

PROGRAM_KEY = "sagemaker_program"
USUAL_NAMES = ("train.py", "train.sh", "__main__.py")
NO_PROGRAMS = frozenset({"__init__.py", "setup.py", "conftest.py", "inference.py"})
"""Python files that are in a folder beside its program."""
PYTHON = frozenset({".py", ".pyc", ".pyz"})
SHELL = frozenset({".sh", ".bash"})
MODULE = "-m "
DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
BASH = ("/bin/bash", "/usr/bin/bash", "/usr/local/bin/bash")
RELATIVE_IMPORT = re.compile(rb"\bfrom\s*\.")
SHOWN = 20
SEARCHED = 2000
"""Entries of the source folder that are searched for what a wrong name may mean."""
SHEBANG = b"#!"
HEAD = 4096
MOST = 1024 * 1024
"""Bytes of a script that are searched for carriage returns."""
MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
"""Byte order marks of UTF-8 and UTF-16."""
HEREDOC = re.compile(rb"(?<!<)<<-?[ \t]*['\"\\]?([A-Za-z_]\w*)")
"""The beginning of a here-document, and the word that is its last line."""
BINARY = (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
"""ELF, and Mach-O for a job without a container on macOS."""


def find_entry(job: Job, environ: Mapping[str, str], folder: Path) -> str:
    """Return the entry file, relative to `folder`; or a module, as `-m package.module`."""
    name = (job.hyperparameters.text(PROGRAM_KEY) or environ.get(PROGRAM) or "").strip()
    if name:
        return _named(name, folder)
    for usual in USUAL_NAMES:
        if (folder / usual).is_file():
            return usual
    programs = _programs(folder)
    if len(programs) == 1:
        return programs[0]
    raise ContractError(
        where=str(folder),
        what=f"has no {' or '.join(USUAL_NAMES)}, and {_several(programs)}; it holds "
        f"{_listing(folder)}",
        hint=f"{_meant(folder, Path(USUAL_NAMES[0]))}Name the program with hyperparameter "
        f"{PROGRAM_KEY} or variable {PROGRAM}",
    )


def command(folder: Path, entry: str) -> tuple[str, ...]:
    """Return the command for `entry`, without its arguments; no shell ever sees those.

    Raise ContractError for a file that can't be a program.
    """
    if entry.startswith(MODULE):
        return (sys.executable, "-m", entry.removeprefix(MODULE))
    path = folder / entry
    suffix = path.suffix.lower()
    if suffix in PYTHON:
        return (sys.executable, str(path))
    if suffix in SHELL:
        _check_shell(path)
        return (next(filter(os.path.exists, BASH), "/bin/sh"), str(path))
    if suffix == ".ipynb":
        raise ContractError(
            where=str(path),
            what="is a notebook, which no command runs",
            hint=f"Convert it before it is sent: jupyter nbconvert --to script {entry}",
        )
    interpreter = _interpreter_of(path)
    if not interpreter:
        _make_executable(path)
    return (*interpreter, str(path))


def source_file(folder: Path, entry: str) -> Path:
    """Return the file that declares the program's options, judged by its name."""
    if not entry.startswith(MODULE):
        return folder / entry
    name = entry.removeprefix(MODULE)
    return _module_file(folder, name) or folder / name


def import_folders(folder: Path) -> tuple[Path, ...]:
    """Return the folders that the program can import from: the folder, and src if it has one."""
    return (folder, folder / "src") if (folder / "src").is_dir() else (folder,)


def _module_file(folder: Path, name: str) -> Path | None:
    for root in import_folders(folder):
        path = root.joinpath(*name.split("."))
        for candidate in (path.with_name(f"{path.name}.py"), path / "__main__.py"):
            if candidate.is_file():
                return candidate
    return None


def _module(name: str, folder: Path) -> str | None:
    """Return `name` as a module to run, if it is given as one or is one in the folder."""
    if name.startswith(MODULE):
        dotted = name.removeprefix(MODULE).strip()
        return f"{MODULE}{dotted}" if DOTTED.fullmatch(dotted) else None
    dotted = name.rstrip("/").replace("/", ".")
    if DOTTED.fullmatch(dotted) and not (folder / name).is_file() and _module_file(folder, dotted):
        return f"{MODULE}{dotted}"
    return None


def _named(name: str, folder: Path) -> str:
    module = _module(name, folder)
    if module:
        return module
    path = Path(name)
    for root in (folder, folder.resolve()):
        if path.is_absolute() and path.is_relative_to(root):
            path = path.relative_to(root)
    if path.is_absolute() or ".." in path.parts:
        raise ContractError(
            where=f"program {name!r}",
            what=f"is outside the source folder {folder}",
            hint="Give a path relative to the source folder; for a folder of the image that is "
            f"not {folder}, set {PROGRAM_DIR}",
        )
    if not (folder / path).is_file():
        raise ContractError(
            where=f"program {name!r}",
            what=f"{_problem(folder, path)} {folder}, which holds {_listing(folder)}",
            hint=f"{_meant(folder, path)}Correct hyperparameter {PROGRAM_KEY} (or variable "
            f"{PROGRAM}), or the code that was sent",
        )
    return _as_module(folder, path) or str(path)


def _as_module(folder: Path, path: Path) -> str | None:
    """Return a file of a package as a module, if it imports its siblings with a leading dot."""
    root = next((r for r in reversed(import_folders(folder)) if r in (folder / path).parents), None)
    if root is None or path.suffix != ".py" or not _imports_its_own_package(folder / path):
        return None
    dotted = ".".join((folder / path).relative_to(root).with_suffix("").parts)
    return f"{MODULE}{dotted}" if "." in dotted and DOTTED.fullmatch(dotted) else None


def _imports_its_own_package(path: Path) -> bool:
    """Return whether a module imports with a leading dot, unguarded: it can't run as a file."""
    tree = parse(path, RELATIVE_IMPORT)
    return tree is not None and any(
        isinstance(node, ast.ImportFrom) and node.level for node in tree.body
    )


def _problem(folder: Path, path: Path) -> str:
    """Return what keeps `path` from being a file of the folder."""
    if (folder / path).is_dir():
        return "is a folder without __main__.py in"
    return "is a link that leads nowhere in" if (folder / path).is_symlink() else "is not in"


def _meant(folder: Path, path: Path) -> str:
    """Return the question whether a file of that name elsewhere was meant, or ""."""
    for number, found in enumerate(folder.rglob("*")):
        if number == SEARCHED:
            break
        if found.name.lower() == path.name.lower() and found.is_file():
            return f"Did you mean {str(found.relative_to(folder))!r}? "
    return ""


def _programs(folder: Path) -> list[str]:
    """Return what could be the program: Python files, else packages with a __main__.py as modules.

    Tests and hidden files are left out: a tar made on macOS has `._train.py` beside `train.py`.
    """
    scripts = [
        path.name
        for path in folder.glob("*.py")
        if not path.name.startswith((".", "test_")) and not path.name.endswith("_test.py")
        if path.name not in NO_PROGRAMS and path.is_file()
    ]
    return sorted(scripts) or sorted(_packages(folder))


def _packages(folder: Path) -> Iterator[str]:
    for root in import_folders(folder):
        for path in root.glob("*/__main__.py"):
            if DOTTED.fullmatch(path.parent.name):
                yield f"{MODULE}{path.parent.name}"


def _several(programs: list[str]) -> str:
    if not programs:
        return "no .py file that could be the program"
    return f"{len(programs)} to choose from ({first_names(programs, SHOWN)})"


def _listing(folder: Path) -> str:
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    return first_names(names, SHOWN) or "nothing"


def _check_shell(path: Path) -> None:
    """Raise ContractError for a shell script with the line ends or the byte order mark of Windows.

    bash would take the carriage return as part of each last word, report commands that do not
    exist, and might still end with 0.
    """
    text = _read(path, MOST)
    _check_mark(path, text)
    is_windows = b"\r\n" in text and any(line.endswith(b"\r") for line in _commands(text))
    if is_windows or (b"\r" in text and b"\n" not in text):
        raise _windows_lines(path, "lines that end with a carriage return")


def _commands(text: bytes) -> Iterator[bytes]:
    """Yield the lines outside of here-documents, which may hold carriage returns on purpose."""
    lines = text.split(b"\n")
    last = {line.lstrip(b"\t"): number for number, line in enumerate(lines)}
    ends: list[bytes] = []
    for number, line in enumerate(lines):
        if ends:
            ends = ends[1:] if line.lstrip(b"\t") == ends[0] else ends
            continue
        yield line
        # a << b may also be a shift of bits; then no line ends it.
        ends = [end for end in HEREDOC.findall(line) if last.get(end, 0) > number]


def _interpreter_of(path: Path) -> tuple[str, ...]:
    """Return the interpreter that the first line names (#!), and its argument; none for a binary.

    A script that its interpreter starts needs no x bit, and runs on a file system that is mounted
    noexec. Raise ContractError for a file that can't be a program.
    """
    text = _read(path, HEAD)
    _check_mark(path, text)
    if not text.startswith(SHEBANG):
        if text.startswith(BINARY):
            return ()
        raise ContractError(
            where=str(path),
            what="is neither a .py nor a .sh file, nor a binary, and its first line does not begin "
            "with #!",
            hint="Name a .py or .sh file, or begin it with a line such as #!/bin/sh",
        )
    line = text.removeprefix(SHEBANG).partition(b"\n")[0]
    if line.endswith(b"\r"):
        raise _windows_lines(path, "a first line (#!) that ends with a carriage return")
    words = [os.fsdecode(word) for word in line.strip().split(maxsplit=1)]
    if not words or not os.access(words[0], os.X_OK):
        raise ContractError(
            where=str(path),
            what=f"names an interpreter that is not here: {' '.join(words) or 'none'}",
            hint="Correct its first line (#!), or install the interpreter where the program runs",
        )
    return tuple(words)


def _make_executable(path: Path) -> None:
    """Set the x bit that archives and S3 lose, as sagemaker-training does."""
    if os.access(path, os.X_OK):
        return
    try:
        path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    except OSError as error:
        raise ContractError(
            where=str(path),
            what=f"is not executable, and can't be made so ({error.strerror})",
            hint="Make it executable (chmod +x) before it is packed",
        ) from error


def _read(path: Path, size: int) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(size)
    except OSError as error:
        raise ContractError(
            where=str(path),
            what=f"can't be read ({error.strerror})",
            hint="Make it readable for the container's user (chmod a+r)",
        ) from error


def _check_mark(path: Path, text: bytes) -> None:
    if text.startswith(MARKS):
        raise ContractError(
            where=str(path),
            what="begins with a byte order mark, which an editor of Windows put there",
            hint="Save it as UTF-8 without BOM",
        )


def _windows_lines(path: Path, what: str) -> ContractError:
    return ContractError(
        where=str(path),
        what=f"has {what}, as an editor or Git on Windows writes them",
        hint=f"Convert it: sed -i 's/\\r$//' {path.name}; and keep it so: put "
        "'*.sh text eol=lf' into .gitattributes",
    )
