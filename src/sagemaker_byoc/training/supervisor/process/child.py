"""The processes of a job: each that the supervisor starts, and all that descend from those.

A child is a plain program, or one rank of several. If it can't be started, the error names the
cause and a hint for each error of the kernel.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from signal import Signals

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.training.job import LONGEST_STRING, size_of
from sagemaker_byoc.training.supervisor.process.log import ERR, LINE_LIMIT, OUT, Lines, Tail, Writer

IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
"""And so by its children, if they were not reset."""


@dataclass(frozen=True, slots=True)
class Program:
    """What is started."""

    command: tuple[str, ...]
    folder: Path
    environment: Mapping[str, str]
    rank: int | None = None
    """Its number among all ranks on all hosts; None for a plain program."""
    label: str = ""
    """Before each of its lines. Rank 0 has none, so that its metric lines stay as they are."""
    error_file: Path | None = None
    """Where torch's `record` writes the exception that ended it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended."""

    returncode: int
    """Negative for a signal."""
    stop: Signals | None
    """The signal that asked for the end, if one did."""
    is_overrun: bool
    """It was killed because it outlived the grace period."""
    out: str
    err: str
    """The ends of its two streams."""
    rank: int | None = None
    error_file: Path | None = None


class Stream:
    """One of the two pipes of a child, as whole lines with its label."""

    def __init__(self, descriptor: int, reader: int, label: str) -> None:
        self.reader = reader
        self.tail = Tail()
        self._descriptor = descriptor
        self._lines = Lines()
        self._label = label.encode()
        self._newline = b"\n" + self._label
        self.is_open = True

    def read(self, writer: Writer) -> int:
        """Pass on what is there; how many bytes that was, -1 where nothing was."""
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
    """A program that runs, or ran."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.status: int | None = None
        """Its wait status, once it has ended."""
        self.is_ending = False
        """It was stopped or killed: its end does not cause anything."""
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
        """To its process group, which it leads."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

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
    # posix_spawn takes no working folder, so ours becomes the program's. The import of
    # subprocess alone would keep the program waiting for 4 ms.
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


PR_SET_CHILD_SUBREAPER = 36
TASKS = Path("/proc/self/task")


def adopt_orphans() -> None:
    """Have descendants whose parent ends fall to this process. PID 1 gets them anyway."""
    if os.getpid() == 1:
        return
    with suppress(ImportError, OSError, AttributeError):  # only Linux has it
        import ctypes  # noqa: PLC0415 - not needed in a container, and slow to import

        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Descendants:
    """The programs, each the leader of its own process group, and the processes they start."""

    def __init__(self) -> None:
        self.groups: list[int] = []
        """The programs' process ids, which are their groups' as well."""
        self.continued: int | None = None
        """The last process that had stopped itself; it was continued."""

    def reap(self) -> list[tuple[int, int]]:
        """Collect every child that has ended; process id and wait status of each.

        A child that is stopped (SIGSTOP) is continued: nobody else in a container would do it.
        """
        ended = []
        with suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG | os.WUNTRACED))[0]:
                if os.WIFSTOPPED(found[1]):
                    self.continued = found[0]
                    with suppress(ProcessLookupError, PermissionError):
                        os.kill(found[0], signal.SIGCONT)
                else:
                    ended.append(found)
        return ended

    def signal_all(self, number: signal.Signals) -> None:
        """Signal the groups, and processes that left them. A child can't be a reused process id."""
        for group in self.groups:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)
        for pid in _children():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    def signal_strays(self, number: signal.Signals) -> None:
        """Signal our children outside of the groups."""
        for pid in _children():
            with suppress(ProcessLookupError, PermissionError):
                if os.getpgid(pid) not in self.groups:
                    os.kill(pid, number)

    def remain(self) -> bool:
        """Return whether any process is left."""
        return bool(_children()) or any(map(_is_alive, self.groups))


def _is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _children() -> list[int]:
    """Return our own children; none if the kernel does not list them."""
    children: list[int] = []
    with suppress(OSError):
        for task in TASKS.iterdir():
            children += map(int, (task / "children").read_text().split())
    return children


ELF = b"\x7fELF"
SHOWN = 60

# What is wrong and what helps, for errors that say all by their number.
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
    what, hint = _of_file(Path(path), error)
    return ContractError(where=path, what=what, hint=hint)


def _of_file(path: Path, error: OSError) -> tuple[str, str]:
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
                "Build it for the C library that is here (glibc or musl), or link it statically",
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
        is_forbidden_there = os.statvfs(path).f_flag & os.ST_NOEXEC
    except OSError:
        is_forbidden_there = 0
    if is_forbidden_there:
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
    """Name the longest argument: variables of ours were left out before."""
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
        f"and {variables} of variables, where the system passes {os.sysconf('SC_ARG_MAX')} in all "
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
