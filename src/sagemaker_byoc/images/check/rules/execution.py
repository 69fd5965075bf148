"""What happens when a container runs a command: runc's lookup, then the kernel's execve.

Sources: libcontainer/standard_init_linux.go in runc; src/os/exec/lp_unix.go in Go (LookPath);
fs/exec.c, fs/binfmt_script.c, fs/binfmt_elf.c in Linux. Each answer was compared with containers
(runc 1.1.5, Linux 6.18). What can't be known from the image has no answer.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from dataclasses import dataclass, replace

from sagemaker_byoc.images.check.rules import wrappers
from sagemaker_byoc.images.check.rules.wrappers import Inner, Words
from sagemaker_byoc.images.layers import BUFFER
from sagemaker_byoc.images.model import EACCES, ENOTDIR, Elf, File, Files, Image, Resolved

_WRAPPERS_LIMIT = 8
"""Wrappers in one command that are looked through."""
_SCRIPTS_LIMIT = 5
"""Scripts that may be each other's interpreters: exec_binprm in fs/exec.c ends with ELOOP."""
_MACHINES = frozenset({(62, 64), (3, 32)})
"""e_machine and bits that hosts of linux/amd64 run: with CONFIG_IA32_EMULATION i386 too."""
_MACHINE_NAMES = {3: "i386", 40: "arm", 62: "x86-64", 183: "aarch64", 243: "RISC-V", 21: "ppc64"}
_MOUNTED = "/opt/ml"
_SUPERUSER = frozenset({"", "0", "root"})
"""Names of the user that may do anything."""
_FOREIGN = {
    b"MZ": "a Windows program",
    b"\xcf\xfa\xed\xfe": "a macOS program",
    b"\xca\xfe\xba\xbe": "a macOS program or Java class",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip file",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself",
    b"\xff\xfe": "a text in UTF-16",
    b"\xef\xbb\xbf": "a text with a byte order mark before its first line",
}
_FOREIGN_FIXES = {
    b"version https://git-lfs": "git lfs pull, before the build",
    b"\xef\xbb\xbf": "Save the file as UTF-8 without BOM: sed -i '1s/^\\xEF\\xBB\\xBF//' {name}",
    b"\xff\xfe": "Save the file as UTF-8 without BOM",
    b"PK\x03\x04": 'Name the program that reads it: ENTRYPOINT ["python3", "{path}"]',
}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a command can't be run."""

    what: str
    where: str
    fix: str
    missing: bool = False
    """Whether there is no file of this name at all."""
    at: int = 0
    """Place in the command of the word that failed."""


@dataclass(frozen=True, slots=True)
class _Root:
    """What the lookup depends on."""

    files: Files
    folder: str
    path: tuple[str, ...] | None
    """The folders of PATH; None if they are unknown."""
    uid: int | None
    architecture: str
    direct: bool = True
    """Whether runc runs the command, not a shell or execvp, which run a text without `#!`."""


def start(image: Image, words: Words) -> Failure | None:
    """Return why a container of `image` can't run `words`; None if it can, or it is unknown."""
    if image.files is None or not words:
        return None
    root = _Root(
        files=image.files,
        folder=image.config.folder or "/",
        path=tuple(image.search_path),
        uid=user_id(image),
        architecture=image.config.architecture,
    )
    folder = root.files.resolve(root.folder)
    if folder.error == ENOTDIR or not (folder.error or root.files.is_folder(folder.path)):
        what = f"WORKDIR {root.folder} is a file, not a folder"
        return Failure(what, folder.path, "Correct the WORKDIR line")
    at = 0
    for _ in range(_WRAPPERS_LIMIT):
        found = _look_up(root, words[0])
        failure = _execute(root, found) if isinstance(found, File) else found
        if failure is not None:
            return replace(failure, at=at)
        inner = _inner(words, found) if isinstance(found, File) else None
        if inner is None:
            return None
        at += inner.at
        if inner.script:
            failure = _interpreted(root, words[0], inner.words[0])
            return None if failure is None else replace(failure, at=at)
        words = inner.words
        root = replace(root, direct=False, path=root.path if inner.path_known else None)
    return None


def _inner(words: Words, file: File) -> Inner | None:
    """Return what the program runs, which a script says itself."""
    data = file.program.start if file.program is not None else b""
    if not data.startswith(b"#!"):
        return wrappers.inner(words)
    parsed = _interpreter(data)
    run_by = parsed[1] or parsed[0] if parsed is not None else ""
    if file.size > len(data) or not wrappers.is_shell(run_by.split(" ")[0]) or len(words) < 2:
        return None
    passes = wrappers.passes_arguments(data.decode(errors="replace"))
    return Inner(words[1:], 1) if passes else None


def _look_up(root: _Root, word: str) -> File | Failure | None:
    """Find a program as LookPath of Go does, and execvp, except for PATH entries like `.`."""
    if "/" in word:
        return _at(root, word)
    if root.path is None:
        return None
    blocked = broken = ""
    for place in root.path:
        path = posixpath.join("/", root.folder, place or ".", word)
        found = root.files.resolve(path, uid=root.uid)
        file = root.files.visible.get(found.path)
        if found.error or file is None or file.kind != "file":
            link = root.files.visible.get(path)
            is_broken = bool(found.error) and link is not None and link.kind == "link"
            broken = broken or (f" ({path} links to {found.path})" if is_broken else "")
            continue
        if not may_execute(file, root.uid):
            blocked = blocked or file.path
        elif root.direct and not place.startswith("/"):
            what = f"runc refuses `{word}`, found through the relative entry {place!r} of PATH"
            fix = f"ENV PATH={posixpath.dirname(file.path)}:$PATH"
            return Failure(what, f"PATH={':'.join(root.path)}", fix)
        else:
            return file
    if blocked:
        return _not_executable(root, root.files.visible[blocked])
    return Failure(
        f"there is no program `{word}` on PATH{broken}",
        f"PATH={':'.join(root.path)}",
        f"Install `{word}` in a folder of PATH",
        missing=True,
    )


def _at(root: _Root, path: str) -> File | Failure | None:
    """Find the program that a path with a slash names, from WORKDIR on."""
    found = root.files.resolve(path, root.folder, root.uid)
    whole = posixpath.join("/", root.folder, path)
    if found.error:
        return _no_way(path, whole, found)
    if root.files.is_folder(found.path):
        return Failure(f"{path} is a folder, not a program", whole, "Name the program in it")
    file = root.files.visible[found.path]
    if file.kind != "file":
        return None
    return file if may_execute(file, root.uid) else _not_executable(root, file)


def _no_way(path: str, whole: str, found: Resolved) -> Failure:
    if found.error == EACCES:
        what = f"the user may not enter {found.path}, where {path} is"
        return Failure(what, whole, f"RUN chmod a+x {found.path}")
    through = f" (through {found.path})" if found.path != posixpath.normpath(whole) else ""
    what = f"there is no program {path}: {found.error}{through}"
    return Failure(what, whole, "Correct the path, or install the program", missing=True)


def _not_executable(root: _Root, file: File) -> Failure:
    user = f", the user has the id {root.uid}" if root.uid and file.mode & 0o111 else ""
    what = f"{file.path} is not executable (mode {file.mode:o}{user})"
    return Failure(what, file.path, f"RUN chmod a+x {file.path}")


def _execute(root: _Root, file: File, depth: int = 0) -> Failure | None:
    """Return why execve of `file` fails."""
    program = file.program
    if program is None:
        return None
    if program.elf is not None:
        return _elf(root, file, program.elf)
    if program.start.startswith(b"#!"):
        parsed = _interpreter(program.start)
        if parsed is not None:
            return _script(root, file, *parsed, depth)
    return _no_format(file, program.start) if root.direct else None


def _interpreter(data: bytes) -> tuple[str, str] | None:
    """Return interpreter and argument of a `#!` line as load_script reads them; None: ENOEXEC."""
    data = data[:BUFFER].ljust(BUFFER, b"\0")
    line, newline, _ = data.partition(b"\n")
    if not newline:
        line = data[: BUFFER - 1]
        if not re.match(rb"#![ \t]*[^ \t]*[ \t\0]", data):
            return None  # the path of the interpreter may be cut
    match = re.match(rb"#![ \t]*([^ \t\0]+)(?:[ \t]+([^\0]*))?", line.rstrip(b" \t"))
    if match is None:
        return None
    name, argument = match[1], match[2] or b""
    return name.decode(errors="replace"), argument.rstrip(b" \t").decode(errors="replace")


def _script(root: _Root, file: File, name: str, argument: str, depth: int) -> Failure | None:
    split = _split(name, argument)
    last = argument or name
    if depth >= _SCRIPTS_LIMIT:
        what = "its interpreter is a script of a script: too many levels"
        return Failure(what, file.path, "Name a program as the interpreter: #!/bin/sh")
    if last.endswith("\r") and split is None:
        what = f"its first line ends in CR LF: it asks for `{last[:-1]}\\r`"
        fix = f"sed -i 's/\\r$//' {posixpath.basename(file.path)}; in .gitattributes: * eol=lf"
        return Failure(what, file.path, fix)
    found = _at(root, name if "/" in name else f"./{name}")
    if isinstance(found, Failure):
        return _no_interpreter(file, name, found)
    failure = None if found is None else _execute(root, found, depth + 1)
    words = split or (argument,)
    if failure is None and posixpath.basename(name) == "env":
        failure = _by_env(root, file, words)
        name = words[0]
    return failure or (_carriage_returns(file) if wrappers.is_shell(name) else None)


def _carriage_returns(file: File) -> Failure | None:
    """Return why a shell can't run a script whose commands all end in CR LF."""
    data = file.program.start if file.program is not None else file.head or b""
    lines = data.split(b"\n")[1:-1]
    commands = [line for line in lines if line.strip() and not line.lstrip().startswith(b"#")]
    if not commands or not all(line.endswith(b"\r") for line in commands):
        return None
    what = f"the lines of {file.path} end in CR LF: the shell takes the CR for part of each command"
    fix = f"sed -i 's/\\r$//' {posixpath.basename(file.path)}; in .gitattributes: * eol=lf"
    return Failure(what, file.path, fix)


def _no_interpreter(file: File, name: str, found: Failure) -> Failure:
    if not found.missing:
        return Failure(f"its interpreter: {found.what}", file.path, found.fix)
    what = f"its interpreter {name} is not in the image"
    return Failure(what, file.path, "Name an interpreter of the image: #!/usr/bin/env python3")


def _split(name: str, argument: str) -> Words | None:
    """Return the words of `env -S`, the only interpreter line with more than one argument."""
    if posixpath.basename(name) != "env" or not argument.startswith("-S"):
        return None
    try:
        return tuple(shlex.split(argument[2:])) or None
    except ValueError:
        return None


def _by_env(root: _Root, file: File, words: Words) -> Failure | None:
    name = words[0]
    if not name or name.startswith("-") or "=" in name:
        return None
    by_env = replace(root, direct=False)
    found = _look_up(by_env, name)
    if isinstance(found, File):
        return _execute(by_env, found)
    if found is None:
        return None
    if not found.missing:
        return Failure(f"`env` can't run `{name}`: {found.what}", file.path, found.fix)
    what = f"its first line asks `env` for `{name}`, which is not on PATH"
    fix = f"Install {name}, or name an interpreter of the image"
    if " " in name:
        fix = f"#!/usr/bin/env -S {name}"
    elif name == "python" and isinstance(_look_up(by_env, "python3"), File):
        fix = "#!/usr/bin/env python3"
    return Failure(what, file.path, fix)


def _elf(root: _Root, file: File, elf: Elf) -> Failure | None:
    """Follow load_elf_binary: header, machine, segments, then the loader."""
    foreign = elf.machine and (elf.machine, elf.bits) not in _MACHINES
    if foreign and root.architecture == "amd64":  # of an image for another one IMG003 says it all
        machine = _MACHINE_NAMES.get(elf.machine, f"the ELF machine {elf.machine}")
        what = f"it is a program for {machine}, and the image is for amd64: exec format error"
        fix = "Install the build for amd64: docker build --platform linux/amd64"
        return Failure(what, file.path, fix)
    if elf.damage:
        return Failure(f"it is damaged: {elf.damage}", file.path, "Copy or download it again")
    return _loader(root, file, elf.loader) if elf.loader else None


def _loader(root: _Root, file: File, name: str) -> Failure | None:
    found = _at(root, name if "/" in name else f"./{name}")
    if isinstance(found, Failure) and not found.missing:
        return Failure(f"its loader: {found.what}", file.path, found.fix)
    if isinstance(found, Failure):
        what = f"its loader {name} is not in the image"
        what += ': "no such file or directory", though the program is there'
        return Failure(what, file.path, _loader_fix(root, name))
    if found is None or found.program is None or found.program.elf is not None:
        return None
    return Failure(f"its loader {name} is not an ELF file", file.path, _loader_fix(root, name))


def _loader_fix(root: _Root, name: str) -> str:
    if "musl" in name:
        return "The program was built on Alpine (musl): build it where glibc is, or statically"
    if any(file.path.startswith("/lib/ld-musl-") for file in root.files.below("/lib")):
        return "The program needs glibc, and Alpine has musl: base the image on Debian or Ubuntu"
    return "Link the program statically (CGO_ENABLED=0 for Go), or use a base image with glibc"


def _no_format(file: File, start: bytes) -> Failure:
    """Name what a file is that execve refuses with ENOEXEC, "exec format error"."""
    name = posixpath.basename(file.path)
    for magic, kind in _FOREIGN.items():
        if start.startswith(magic):
            fix = _FOREIGN_FIXES.get(magic, "Install the build for Linux")
            return Failure(
                f"it is {kind}: exec format error", file.path, fix.format(name=name, path=file.path)
            )
    if not start:
        return Failure("it is empty: exec format error", file.path, "Copy the program itself")
    if start.startswith(b"#!"):
        what = "its first line names no interpreter within 255 bytes: exec format error"
        return Failure(what, file.path, "Begin the file with #!/bin/sh or #!/usr/bin/env python3")
    python = re.search(rb"^(import|from) ", start, re.MULTILINE)
    interpreter = "/usr/bin/env python3" if python else "/bin/sh"
    what = "it has no `#!` line and is not a program: exec format error"
    return Failure(what, file.path, f"Begin the file with #!{interpreter}")


def _interpreted(root: _Root, interpreter: str, script: str) -> Failure | None:
    """Return why an interpreter can't open its script, which a job may bring under /opt/ml."""
    whole = posixpath.normpath(posixpath.join("/", root.folder, script))
    if whole == _MOUNTED or whole.startswith(_MOUNTED + "/"):
        return None
    found = root.files.resolve(script, root.folder, root.uid)
    if not found.error:
        file = root.files.visible.get(found.path)
        if file is None or not wrappers.is_shell(interpreter):
            return None
        return _carriage_returns(file)
    if "/" not in script and (not root.direct or isinstance(_look_up(root, script), File)):
        return None  # after `cd`, or shells that search PATH too
    what = f"{posixpath.basename(interpreter)} can't open {script}: {found.error} at {whole}"
    return Failure(what, whole, "Correct the path, or copy the file into the image", missing=True)


# ── the user ──


def user_id(image: Image) -> int | None:
    """Return the id of the image's user; None if it is unknown."""
    name = image.config.user.partition(":")[0]
    if name in _SUPERUSER:
        return 0
    if name.isdecimal():
        return int(name)
    entries = _entries(image, "/etc/passwd")
    found = (entries or {}).get(name, "")
    return int(found) if found.isdecimal() else None


def missing_user(image: Image) -> tuple[str, str] | None:
    """Return the name in USER that no file of the image defines, and that file."""
    user, _, group = image.config.user.partition(":")
    for name, path in ((user, "/etc/passwd"), (group, "/etc/group")):
        if name in _SUPERUSER or name.isdecimal():
            continue
        entries = _entries(image, path)
        if entries is not None and name not in entries:
            return name, path
    return None


def may_execute(file: File, uid: int | None) -> bool:
    """Tell whether the user may execute `file`; with an unknown group, rather yes."""
    if not uid:
        return bool(file.mode & 0o111)
    return bool(file.mode & (0o100 if file.uid == uid else 0o011))


def _entries(image: Image, path: str) -> dict[str, str] | None:
    """Return names and ids of a file like /etc/passwd; None if it was not read whole."""
    if image.files is None:
        return None
    file = image.files.find(path)
    if file is None:
        return {}
    if file.head is None or file.size > len(file.head):
        return None
    lines = (line.split(":") for line in file.head.decode(errors="replace").splitlines())
    return {words[0]: words[2] for words in lines if len(words) > 2}
