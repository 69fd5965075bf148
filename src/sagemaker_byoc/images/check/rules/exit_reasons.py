"""Why a container ended, read from its log: what the image lacks, or what it can't do.

Only what has nothing to do with data, models or settings counts: with the right ones it would end
the same. Each line of a log below was written by the program that it names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sagemaker_byoc.contract.installation import package_of

SHOWN = 300
_LINE_LIMIT = 2000
_GIVEN = ("/opt/ml", "/tmp", "/proc", "/sys", "/dev", "/run")  # noqa: S108 - names in a log
"""Folders that the platform fills: what is missing there is not the image's fault."""
_DRIVER = re.compile(r"\blib(cuda|nvidia-\w+|nvcuvid|nvoptix)\.so")
"""Libraries of the driver, which the host brings."""
_RUNNERS = re.compile(
    r"(HaltServer|CalledProcessError|ChildFailedError|ProcessRaisedException|ProcessExitedException"
    r"|SystemExit|BrokenProcessPool|RemoteError)$"
)
"""Exceptions of programs that report another one's end."""
_EXCEPTION = re.compile(
    r"(?:^|[\s\]:|])(?P<type>(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Exit|Interrupt|HaltServer))"
    r"(?::\s+(?P<text>\S.*)|:?)$"
)


@dataclass(frozen=True, slots=True)
class Cause:
    """What went wrong, and what to do about it."""

    what: str
    fix: str
    starts: bool = True
    """False if not even the program's first instruction was run."""


@dataclass(frozen=True, slots=True)
class _Sign:
    """A line of a log that tells a cause; `fix` may name the groups of the pattern."""

    pattern: re.Pattern[str]
    fix: str
    starts: bool = True


def _sign(pattern: str, fix: str, *, starts: bool = True) -> _Sign:
    return _Sign(re.compile(pattern), fix, starts)


_INSTALL = "Install it in the image: "
_FOLDER = "RUN mkdir -p the folder in the Dockerfile, or log to standard output"
_GLIBC = _sign(
    r"version [`'](?P<name>(GLIBC|GLIBCXX|CXXABI)_[\d.]+)' not found",
    "Build it in an image as old as this one, or base this one on a newer distribution",
)
_LIBRARY = _sign(
    r"(?P<name>lib[\w.+-]+\.so[\d.]*): cannot open shared object file",
    _INSTALL + "apt-get install the package that holds {name}",
)
_MODULE = _sign(
    r"No module named '?(?P<module>[\w.]+)'?", _INSTALL + "add {module} to requirements.txt"
)
_LAST_WORDS = (_LIBRARY, _MODULE)
"""What counts without its exception's name if it is the last that a program says."""
_LINES = (
    _sign(
        r"^exec (?P<name>/?\S+): (exec format error|no such file or directory|permission denied|"
        r"too many levels of symbolic links|accessing a corrupted shared library)$",
        "Correct {name}, or what its first line names: byoc check IMAGE --static",
        starts=False,
    ),
    _sign(
        r"error while loading shared libraries: (?P<name>[^:\s]+): cannot open shared object",
        _INSTALL + "apt-get install the package that holds {name}",
        starts=False,
    ),
    _sign(
        r"Error loading shared library (?P<name>[^:\s]+): No such file",
        _INSTALL + "apk add the package that holds {name}, or use a base image with glibc",
        starts=False,
    ),
    _GLIBC,
    _sign(
        r"python[\d.]*: No module named '?(?P<module>[\w.]+)",
        _INSTALL + "add {module} to requirements.txt",
    ),
    _sign(
        r"can't open file '(?P<name>[^']+)': \[Errno \d+\]",
        "Copy {name} into the image, or correct the path in ENTRYPOINT",
    ),
    _sign(
        r"^Error in .*there is no package called .(?P<name>[\w.]+)",
        _INSTALL + "Rscript -e 'install.packages(\"{name}\")'",
    ),
    _sign(r"^Error: Cannot find module '(?P<name>[^']+)'", _INSTALL + "npm install {name}"),
    _sign(
        r"\\r': command not found|[: ]set: (Illegal option -|-: invalid option)$"
        r"|Illegal option -$",
        "Save the scripts with LF line ends: sed -i 's/\\r$//' FILE",
        starts=False,
    ),
    _sign(r"(open|mkdir)\(\) \"(?P<path>/[^\"]+)\" failed \((2|13): ", _FOLDER),
    _sign(r"Error: '(?P<path>/[^']+)' isn't writable", _FOLDER),
    _sign(r"cannot create (?P<path>/[^:]+): (Directory nonexistent|Permission denied)", _FOLDER),
    _sign(r": line \d+: (?P<path>/[^:]+): (No such file or directory|Permission denied)", _FOLDER),
    _sign(r"Unable to access jarfile (?P<path>\S+)", "Copy {path} into the image"),
    _sign(r"Could not find or load main class (?P<name>\S+)", "Copy the classes into the image"),
    _sign(r"cannot load such file -- (?P<name>\S+)", _INSTALL + "gem install {name}"),
    _sign(r"Can't locate (?P<name>\S+) in @INC", _INSTALL + "cpan the module of {name}"),
    _sign(
        r"Error loading ASGI app|Failed to find attribute '[^']+' in '|Could not import module \"",
        "Copy the application into the image, and name its module as it is found from WORKDIR",
    ),
)
"""What a line says by itself; other programs log their own end in it."""
_EXCEPTIONS = (
    _GLIBC,
    _LIBRARY,
    _sign(r"undefined symbol: (?P<name>\w+)", "Install builds that belong together"),
    _sign(
        r"numpy\.core\.multiarray failed to import|compiled using NumPy 1\.x cannot be run",
        "Pin numpy<2, or install newer builds of the packages that need it",
    ),
    _MODULE,
    _sign(r"Package (?P<name>\w+) not found in current path", _INSTALL + 'Pkg.add("{name}")'),
    _sign(r"Exec format error: '(?P<path>/[^']+)'", "Install {path} in its build for linux/amd64"),
    _sign(
        r"numpy\.\w+ size changed|compiled against (API|ABI) version|Descriptors cannot be created"
        r"|^AttributeError: module '[\w.]+' has no attribute",
        "Install versions that belong together: pip check, and pins in requirements.txt",
    ),
    _sign(r"^ImportError: ", "Install what it names, in versions that belong together: pip check"),
    _sign(
        r"^(SyntaxError|IndentationError|TabError): ",
        "Correct the file, or install the Python that it is written for",
    ),
    _sign(
        r"^PermissionError: .*Permission denied",
        "Give the user of the container the right, or remove the USER line",
    ),
    _sign(
        r"^FileNotFoundError: .*No such file or directory: '(?P<path>/[^']+)'",
        "Copy the file into the image, or RUN mkdir -p its folder",
    ),
    _sign(
        r"^FileNotFoundError: .*No such file or directory: '(?P<program>[\w.+-]+)'",
        _INSTALL + "apt-get install the package that holds {program}",
    ),
)
"""What the exception says that ended a program; elsewhere the same words may be a warning."""
_EXECUTES = re.compile(r"_execute_child|\bexecvp?e?\b|_posixsubprocess")
_BY_SIGNAL = {
    132: Cause(
        "Illegal instruction: a build for a processor that this one is not",
        "Install a build for plain x86-64: hosts differ in AVX2 and AVX-512",
    ),
    135: Cause(
        "Bus error: a file is cut, or shared memory is too small",
        "Copy the program again; or let data loaders use less shared memory",
    ),
    137: Cause(
        "Killed: the memory did not suffice",
        "Give the engine more memory, or the program less to hold at once",
    ),
    139: Cause(
        "Segmentation fault in native code",
        "Install builds that belong together; python -X faulthandler names the place",
    ),
}
_IN_WORDS = {
    132: re.compile(r"\b(Illegal instruction|SIGILL)\b"),
    135: re.compile(r"\b(Bus error|SIGBUS)\b"),
    139: re.compile(r"\b(Segmentation fault|SIGSEGV)\b"),
}
_KILLED = re.compile(r"^Killed$|: line \d+:\s+\d+ Killed\b|\bSIGKILL\b")


def of(log: str, exit_code: int | None) -> Cause | None:
    """Return the cause that a log and an exit code tell; None if it may be data or settings."""
    if exit_code in _BY_SIGNAL:
        return _BY_SIGNAL[exit_code]
    lines = [line.strip()[:_LINE_LIMIT] for line in log.splitlines() if line.strip()]
    last = _last_exception(lines)
    if last is not None:
        return _match(_EXCEPTIONS, last, log) or _by_words(last, exit_code)
    for line in reversed(lines):
        cause = _match(_LINES, line, log) or _by_words(line, exit_code)
        if cause is not None:
            return cause
    return _match(_LAST_WORDS, lines[-1], log) if lines and exit_code is not None else None


def _last_exception(lines: list[str]) -> str | None:
    """Return the last exception that does not only report another one's end."""
    for line in reversed(lines):
        match = _EXCEPTION.search(line)
        if match is not None and not _RUNNERS.search(match["type"]):
            return f"{match['type'].rpartition('.')[2]}: {match['text'] or ''}"
    return None


def _match(signs: tuple[_Sign, ...], line: str, log: str) -> Cause | None:
    if _DRIVER.search(line):
        return None
    for sign in signs:
        match = sign.pattern.search(line)
        if match is not None and _counts(match, log):
            groups = {name: text or "" for name, text in match.groupdict().items()}
            if "module" in groups:
                groups["module"] = package_of(groups["module"])
            return Cause(line[:SHOWN], sign.fix.format(**groups), sign.starts)
    return None


def _counts(match: re.Match[str], log: str) -> bool:
    """Tell whether the image is to blame, not the content of the platform's folders."""
    found = match.groupdict()
    if "path" in found:
        path = found["path"]
        return not any(path == folder or path.startswith(folder + "/") for folder in _GIVEN)
    return "program" not in found or _EXECUTES.search(log) is not None


def _by_words(line: str, exit_code: int | None) -> Cause | None:
    for code, pattern in _IN_WORDS.items():
        if pattern.search(line):
            return Cause(line[:SHOWN], _BY_SIGNAL[code].fix)
    if exit_code is not None and _KILLED.search(line):
        return Cause(line[:SHOWN], _BY_SIGNAL[137].fix)
    return None
