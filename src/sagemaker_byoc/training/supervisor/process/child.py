"""The processes of a job: each that the supervisor starts, and all that descend from those.

A child is a plain program, or one rank of several. If it can't be started, the error names the
cause and a hint for each error of the kernel.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from signal import Signals

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.training.job import LONGEST_STRING, size_of
from sagemaker_byoc.training.supervisor.process.log import ERR, LINE_LIMIT, OUT, Lines, Tail, Writer

IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
"""Signals that a child would ignore as well if they were not reset."""


@dataclass(frozen=True, slots=True)
class Program:
    """What the supervisor starts."""

    command: tuple[str, ...]
    folder: Path
    environment: Mapping[str, str]
    rank: int | None = None
    """Number among all ranks on all hosts; None for a plain program."""
    label: str = ""
    """Prefix of each line. Rank 0 has none, so that its metric lines stay as they are."""
    error_file: Path | None = None
    """File in which torch's `record` writes the exception that ended the program."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended."""

    returncode: int
    """Negative for a signal."""
    stop: Signals | None
    """The signal that asked for the end, if one did."""
    is_overrun: bool
    """The program was killed because it outlived the grace period."""
    out: str
    err: str
    """The ends of its two streams."""
    rank: int | None = None
    error_file: Path | None = None


class Stream:
    """One of the two pipes of a child, read as whole lines with the child's label."""

    def __init__(self, descriptor: int, reader: int, label: str) -> None:
        self.reader = reader
        self.tail = Tail()
        self._descriptor = descriptor
        self._lines = Lines()
        self._label = label.encode()
        self._newline = b"\n" + self._label
        self.is_open = True

    def read(self, writer: Writer) -> int:
        """Pass on what the pipe holds; return its bytes, 0 at its end, -1 if it holds nothing."""
        try:
            data = os.read(self.reader, LINE_LIMIT)
        except BlockingIOError:
            return -1
        if data:
            self._pass_on(writer, self._lines.feed(data))
        return len(data)

    def close(self, writer: Writer) -> None:
        self._pass_on(writer, self._lines.end())
        os.close(self.reader)
        self.is_open = False

    def _pass_on(self, writer: Writer, whole: bytes) -> None:
        if whole:
            self.tail.add(whole)
            if self._label:
                whole = self._label + whole[:-1].replace(b"\n", self._newline) + b"\n"
            writer.put(self._descriptor, whole)


class Child:
    """A program that was started."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.status: int | None = None
        """The wait status, once the program has ended."""
        self.is_ending = False
        """The program was stopped or killed: its end is not a cause."""
        ends: dict[int, int] = {}
        self.streams: dict[int, Stream] = {}
        try:
            for descriptor in (OUT, ERR):
                reader, ends[descriptor] = os.pipe()
                os.set_blocking(reader, False)
                self.streams[descriptor] = Stream(descriptor, reader, program.label)
            self.pid = _spawn(program, ends)
        except (OSError, ValueError) as error:
            for stream in self.streams.values():
                os.close(stream.reader)
            raise start_error(program, error) from error
        finally:
            for end in ends.values():
                os.close(end)

    def signal(self, number: Signals) -> None:
        """Signal the process group of the program, which leads it."""
        _send(os.killpg, self.pid, number)

    def outcome(self, stop: Signals | None, *, is_overrun: bool) -> Outcome:
        return Outcome(
            returncode=os.waitstatus_to_exitcode(self.status or 0),
            stop=stop,
            is_overrun=is_overrun,
            out=self.streams[OUT].tail.text(),
            err=self.streams[ERR].tail.text(),
            rank=self.program.rank,
            error_file=self.program.error_file,
        )


def _spawn(program: Program, ends: Mapping[int, int]) -> int:
    # posix_spawn takes no working folder, so ours changes to the program's. To import subprocess
    # instead would delay the program by 4 ms.
    os.chdir(program.folder)
    return os.posix_spawn(
        program.command[0],
        program.command,
        program.environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, ends[OUT], OUT),
            (os.POSIX_SPAWN_DUP2, ends[ERR], ERR),
        ],
        setsid=True,
        setsigdef=IGNORED_BY_PYTHON,
    )


def _send(send: Callable[[int, int], None], target: int, number: Signals) -> None:
    """Send a signal with os.kill or os.killpg, unless the process is gone or another user's."""
    with suppress(ProcessLookupError, PermissionError):
        send(target, number)


PR_SET_CHILD_SUBREAPER = 36
TASKS = Path("/proc/self/task")


def adopt_orphans() -> None:
    """Make this process the parent of descendants that lose theirs. PID 1 is so anyway."""
    if os.getpid() == 1:
        return
    with suppress(ImportError, OSError, AttributeError):  # only Linux has it
        import ctypes  # noqa: PLC0415 - not needed in a container, and slow to import

        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Descendants:
    """The programs, each the leader of its own process group, and the processes they start."""

    def __init__(self) -> None:
        self.groups: list[int] = []
        """The process ids of the programs, which are also those of their groups."""
        self.continued: int | None = None
        """The last process that had stopped itself and was continued."""

    def reap(self) -> list[tuple[int, int]]:
        """Collect every child that has ended; return the process id and wait status of each.

        Continue a child that is stopped (SIGSTOP): nobody else in a container would do it.
        """
        ended = []
        with suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG | os.WUNTRACED))[0]:
                if os.WIFSTOPPED(found[1]):
                    self.continued = found[0]
                    _send(os.kill, found[0], signal.SIGCONT)
                else:
                    ended.append(found)
        return ended

    def signal_all(self, number: signal.Signals) -> None:
        """Signal the groups, and processes that left them. A child can't be a reused process id."""
        for group in self.groups:
            _send(os.killpg, group, number)
        for pid in _children():
            _send(os.kill, pid, number)

    def signal_strays(self, number: signal.Signals) -> None:
        """Signal our children outside of the groups."""
        for pid in _children():
            with suppress(ProcessLookupError, PermissionError):
                if os.getpgid(pid) not in self.groups:
                    os.kill(pid, number)

    def remain(self) -> bool:
        """Return whether any process remains."""
        return bool(_children()) or any(map(_is_alive, self.groups))


def _is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True


def _children() -> list[int]:
    """Return the children of this process; none if the kernel does not list them."""
    children: list[int] = []
    with suppress(OSError):
        for task in TASKS.iterdir():
            children += map(int, (task / "children").read_text().split())
    return children


ELF = b"\x7fELF"
SHOWN = 60

# What is wrong and what helps, for errors whose number says everything.
BY_NUMBER = {
    errno.ETXTBSY: (
        "is still open for writing",
        "Close it before the job starts, or bake it into the image",
    ),
    errno.ELOOP: ("is a link that leads to itself", "Replace the link by the file"),
    errno.ENAMETOOLONG: ("has a path that is too long", "Shorten its name or its folders' names"),
    errno.ENOMEM: (
        "can't be started: there is not enough memory for another process",
        "Choose an instance with more memory, or fewer processes",
    ),
    errno.EAGAIN: (
        "can't be started: the limit of processes is reached",
        "Raise the container's limit (docker run --pids-limit, --ulimit nproc), or start fewer",
    ),
    errno.EMFILE: (
        "can't be started: this process may not open more files",
        "Raise the limit of open files (docker run --ulimit nofile), or start fewer processes",
    ),
    errno.ENFILE: (
        "can't be started: the machine has no more files to open",
        "Raise the machine's fs.file-max, or start fewer processes",
    ),
    errno.EPERM: (
        "can't be started: a security policy of the container forbids it",
        "Look at the container's seccomp, AppArmor or SELinux profile",
    ),
    errno.ENOSYS: (
        "can't be started: the kernel does not offer what is needed",
        "Look at the container's seccomp profile",
    ),
}


def start_error(program: Program, error: OSError | ValueError) -> ContractError:
    """Return the error for `program`, whose start ended with `error`."""
    path = program.command[0]
    if not isinstance(error, OSError):
        return _unpassable(program)
    if error.errno == errno.E2BIG:
        return _too_long(program)
    if str(error.filename) == str(program.folder):
        return ContractError(
            where=str(program.folder),
            what=f"can't be made the working folder ({error.strerror})",
            hint="Make it readable for the container's user (chmod a+rX)",
        )
    what, hint = _cause_and_hint(Path(path), error)
    return ContractError(where=path, what=what, hint=hint)


def _cause_and_hint(path: Path, error: OSError) -> tuple[str, str]:
    match error.errno:
        case errno.ENOEXEC if _begins_with(path, ELF):
            return (
                "is a program for another kind of processor",
                f"Build it for this machine ({os.uname().machine})",
            )
        case errno.ENOEXEC:
            return (
                "is not a program that the kernel can start",
                "Begin a script with #! and its interpreter, or name a .py or .sh file",
            )
        case errno.ENOENT if path.exists():
            return (
                "needs a loader that is not installed here",
                "Build it for the C library of this system (glibc or musl), or link it statically",
            )
        case errno.ENOENT | errno.ENOTDIR:
            return "does not exist", "Install it where the program runs, or correct the name"
        case errno.EACCES:
            return _forbidden(path)
    unknown = (
        f"can't be started ({error.strerror})",
        "Check the file's permissions and, for a script, its first line (#!)",
    )
    return BY_NUMBER.get(error.errno or 0, unknown)


def _forbidden(path: Path) -> tuple[str, str]:
    try:
        is_noexec = os.statvfs(path).f_flag & os.ST_NOEXEC
    except OSError:
        is_noexec = 0
    if is_noexec:
        return (
            "is on a file system that is mounted noexec",
            "Bake it into the image, or mount the folder without noexec",
        )
    return (
        "may not be executed by the container's user",
        "Make it executable (chmod a+x), and the folders above it readable (chmod a+rX)",
    )


def _begins_with(path: Path, magic: bytes) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(magic)) == magic
    except OSError:
        return False


def _too_long(program: Program) -> ContractError:
    """Return an error that names the longest argument: our own variables were left out before."""
    words = program.command[1:]
    longest = max(range(len(words)), key=lambda index: size_of(words[index]), default=0)
    option = words[longest] if words else ""
    if not option.startswith("-") and longest and words[longest - 1].startswith("-"):
        option = words[longest - 1]
    total = sum(map(size_of, words))
    variables = sum(size_of(f"{n}={v}") for n, v in program.environment.items())
    return ContractError(
        where=f"argument {option[:SHOWN]!r}",
        what=f"is the longest, and all are too long to start a program: {total} bytes of arguments "
        f"and {variables} of variables, but the system passes {os.sysconf('SC_ARG_MAX')} in all "
        f"and {LONGEST_STRING} in one",
        hint="Put long hyperparameters into a file of a channel, or raise the stack limit "
        "(docker run --ulimit stack)",
    )


def _unpassable(program: Program) -> ContractError:
    where = next(_culprits(program), program.command[0])
    return ContractError(
        where=where,
        what="holds a character that no argument and no variable of a program can hold",
        hint="Remove it: NUL, half of a surrogate pair, = in a variable's name, or a letter that "
        "the container's locale (LC_ALL) does not know",
    )


def _culprits(program: Program) -> Iterator[str]:
    for number, word in enumerate(program.command):
        if not _is_passable(word):
            yield f"argument {number} ({word[:SHOWN]!r})"
    for name, value in program.environment.items():
        if "=" in name or not _is_passable(name + value):
            yield f"variable {name[:SHOWN]!r}"


def _is_passable(text: str) -> bool:
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False
