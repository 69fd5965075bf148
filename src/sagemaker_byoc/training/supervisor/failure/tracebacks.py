"""Python tracebacks in the end of a program's output, as data, and what else the output says.

First the output becomes plain lines, without colors, labels, boxes and margins. Tracebacks that are
drawn (by rich, typer, IPython, or Python itself for an exception group) become lines in Python's
plain form, so that one parser reads them all. A rank's exception may also be in the file that
torch's `record` wrote, TORCHELASTIC_ERROR_FILE.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from signal import Signals

HEADER = "Traceback (most recent call last):"
LINE_LIMIT = 2000
"""Characters of one line that are looked at."""
CONTROL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)|\x1b[@-Z\\-_]?"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)
LABEL = re.compile(r"^\[(?:rank|default)(?P<rank>\d+)\]: ?")
"""Prefix that torch and torchrun put before each line of a rank."""
BAR = re.compile(r"^[^'\"]{0,200}?\d%\|[^|]{0,300}\| [^ ]{1,40}/[^ ]{1,40} \[[^\]]{0,300}\](?=\S)")
"""A tqdm bar whose line was not ended: the program's next output is in the same line."""

EDGES = "╭╮╰╯┌┐└┘├┤┏┓┗┛╔╗╚╝─━═│┃║╷╵╶╴┬┴┼"
BOX_TOP = re.compile(r"^\s*[╭┌┏╔+][─━═-]+ (?P<title>.*?) [─━═-]+[╮┐┓╗+]$")
BOX_BOTTOM = re.compile(r"^\s*[╰└┗╚+][─━═-]+[╯┘┛╝+]$")
BOX_LINE = re.compile(r"^\s*[│┃║|](?P<content>.*?)[│┃║|]?$")
BOX_FRAME = re.compile(r"^(?P<file>\S.*?):(?P<line>\d+) in (?P<function>\S+)$")
BOX_CODE = re.compile(r"^\s*(?:❱|>|\\u2771)\s*\d+ (?P<code>.*)$")
BOX_LINES = 400

GROUP_HEADER = re.compile(r"^\s*\+ Exception Group Traceback \(most recent call last\):$")
GROUP_LINE = re.compile(r"^\s*(?:\| ?|\+ (?=Exception))")
GROUP_RULE = re.compile(r"^\s*\+(?:-\+)?-{8,}(?: (?P<number>\d+|\.\.\.) -{8,})?$")

HELD_LINES = 40
MEMBER = "\x1f"
"""First character of each member's line; lines of programs have no control characters left."""

NOTEBOOK_HEADER = re.compile(r"^(?P<name>[A-Za-z_][\w.]*) {2,}Traceback \(most recent call last\)$")
NOTEBOOK_FRAME = re.compile(
    r"^(?:File |Cell )?(?P<file>[^,]+?)(?::|, line )(?P<line>\d+)(?:, in (?P<function>[^(]+).*)?$"
)
NOTEBOOK_CODE = re.compile(r"^-+> +\d+ (?P<code>.*)$")

FRAME = re.compile(r'  File "(?P<file>.+)", line (?P<line>\d+)(?:, in (?P<function>.+))?')
FATAL_FRAME = re.compile(r'  File "(?P<file>.+)", line (?P<line>\d+) in (?P<function>.+)')
FATAL = re.compile(r"^(?:Fatal Python error: |Windows fatal )")
CURRENT_THREAD = re.compile(r"^(?:Current t|T)hread .* \(most recent call first\):$")
LINKS = (
    "The above exception was the direct cause of the following exception:",
    "During handling of the above exception, another exception occurred:",
)
WRAPPERS = re.compile(
    r"^(?:torch\.distributed\.elastic\.[\w.]*(?:ChildFailedError|SignalException)"
    r"|subprocess\.CalledProcessError: Command .*(?:non-zero exit status|died with)"
    r"|torch\.multiprocessing\.spawn\.Process(?:Raised|Exited)Exception)"
)
"""Exceptions of a process that started another process, whose traceback says more."""
TABLE = "ChildFailedError"
"""Exception of torchrun whose message is a table of its ranks."""
ROOT_CAUSE = re.compile(
    r"Root Cause \(first observed failure\):.*?rank\s+: (?P<rank>\d+)"
    r".*?exitcode\s+: (?P<code>-?\d+)",
    re.DOTALL,
)
NOISE = re.compile(
    r"^\s*$"
    r"|^\s*[=*_~-]{5,}$"
    r'|^"""$'
    r"|^\[?[IW]\d{4} \d\d:\d\d:\d\d|^E\d{4} .*torch/distributed/elastic/"  # glog
    r"|^(?:\S+ )?(?:[\d-]+[ T])?\[?\d\d:\d\d:\d\d\S*\]?.*\b(?:DEBUG|INFO|WARNING)\b"
    r"|^\[?(?:DEBUG|INFO|WARNING|WARN)\b"
    r"|^\S*:\d+: \w*Warning: |^\s+warnings\.warn\("
    r"|^Exception ignored (?:in|on|while)|^Error in sys\.excepthook|^sys:1: "
    r"|resource_tracker:|^wandb: |^Set the env\w* (?:variable )?HYDRA_FULL_ERROR=1"
    r"|\d+%\|.*\||\b(?:it|s|examples|batch|B)/(?:it|s|batch)\b.*\]$"  # tqdm
    r"|^(?i:try '.* --help' for help|tip: )"
    r"|^To enable traceback see: "
)
PROGRESS = re.compile(
    r"(?i)^\W*(?:step|epoch|iter(?:ation)?|train(?:ing)?|eval)\b\W{0,3}(?:\w+=)?\d"
)
RECORD = re.compile(r"\b(?:DEBUG|INFO)\b|\d+%\|.*\|")
MANY_RECORDS = 5
MESSAGE_LINES = 40
FOREIGN = ("/site-packages/", "/dist-packages/", "<frozen ", "/lib/python3")
RECORD_LIMIT = 256 * 2**10
RECORD_CHARACTERS = 4000


def lines_of(text: str) -> dict[str, list[str]]:
    """Return the lines of each labeled rank, and those without a label under ""."""
    streams: dict[str, list[str]] = {}
    for line in text.splitlines():
        plain = BAR.sub("", CONTROL.sub("", _shortened(line)).rstrip())
        found = LABEL.match(plain)
        label = found["rank"] if found else ""
        streams.setdefault(label, []).append(plain[found.end() :] if found else plain)
    return {label: list(_without_drawings(lines)) for label, lines in streams.items()}


def _shortened(line: str) -> str:
    return line if len(line) <= LINE_LIMIT else f"{line[: LINE_LIMIT - 500]} … {line[-500:]}"


def _without_drawings(lines: list[str]) -> Iterator[str]:
    """Yield the lines, with each drawn traceback in its plain form."""
    rest = iter(lines)
    margin = ""
    for whole in rest:
        margin = margin if whole.startswith(margin) else ""
        line = whole.removeprefix(margin)
        if top := BOX_TOP.match(line):
            margin += line[: len(line) - len(line.lstrip())]  # of rich's log handler
            yield from _unboxed(top["title"], rest)
        elif GROUP_HEADER.match(line):
            yield from _group(rest)
        elif header := NOTEBOOK_HEADER.match(line):
            yield from _notebook(header["name"], rest)
        elif not (stripped := line.strip()) or stripped.strip(EDGES + " "):
            yield line


def _unboxed(title: str, rest: Iterable[str]) -> Iterator[str]:
    contents = []
    for _, line in zip(range(BOX_LINES), rest, strict=False):
        found = BOX_LINE.match(line)
        if BOX_BOTTOM.match(line) or not found:
            break
        content = found["content"].removeprefix(" ")
        contents.append(content if content.strip(EDGES + " ") else "")  # a rule within the box
    if HEADER.removesuffix(":") in title:
        yield from _box_frames(contents)
    else:
        yield f"{title}: {' '.join(' '.join(contents).split())}"


def _box_frames(contents: list[str]) -> Iterator[str]:
    yield HEADER
    begun = ""
    """The beginning of a frame that is too long for one line of the box."""
    for padded in contents:
        content = padded.rstrip()
        if found := BOX_FRAME.match(begun + content) or BOX_FRAME.match(f"{begun} {content}"):
            yield f'  File "{found["file"]}", line {found["line"]}, in {found["function"]}'
        elif code := BOX_CODE.match(content):
            yield f"    {code['code'].strip(EDGES + '| ')}"
        is_cut = bool(content) and not found and content[0] not in EDGES + " "
        # rich breaks a line at a space, or else, after a full line, within a word.
        begun = f"{begun}{content}{' ' if padded.endswith('  ') else ''}" if is_cut else ""


def _group(rest: Iterator[str]) -> Iterator[str]:
    """Yield a group as one exception: its frames, its first member's, and all messages."""
    parts: list[list[str]] = [[]]
    held: list[str] = []
    """Lines without a margin; they belong to the group's message if more of the group follows."""
    for line in rest:
        rule = GROUP_RULE.match(line)
        if rule or GROUP_LINE.match(line):
            parts[-1] += held
            held = []
            parts += [[]] if rule and rule["number"] else []
            parts[-1] += [] if rule else [GROUP_LINE.sub("", line)]
        else:
            held.append(line)
        if len(held) > HELD_LINES:
            break
    split = [_frames_and_message(part) for part in parts]
    yield HEADER
    for frames, _ in split[:2]:
        yield from frames
    yield " ".join(split[0][1])
    for number, (_, said) in enumerate(split[1:], start=1):
        yield f"{MEMBER}({number}) {' '.join(said)}"
    yield from held


def _frames_and_message(part: list[str]) -> tuple[list[str], list[str]]:
    frames = [line for line in part if line.startswith("  ")]
    said = [line.strip() for line in part if line.strip() and not line.startswith("  ")]
    return frames, [line for line in said if not line.endswith(HEADER)]


def _notebook(name: str, rest: Iterator[str]) -> Iterator[str]:
    yield HEADER
    for _, line in zip(range(BOX_LINES), rest, strict=False):
        if line.startswith((f"{name}:", f"{name.rpartition('.')[2]}:")) or line == name:
            yield line
            return
        if code := NOTEBOOK_CODE.match(line):
            yield f"    {code['code'].strip()}"
        elif found := NOTEBOOK_FRAME.match(line):
            function = (found["function"] or "<module>").strip()
            yield f'  File "{found["file"]}", line {found["line"]}, in {function}'


@dataclass(frozen=True, slots=True)
class Frame:
    file: str
    line: int
    function: str
    code: str

    @property
    def is_users(self) -> bool:
        return not any(part in self.file for part in FOREIGN)


@dataclass(frozen=True, slots=True)
class Traceback:
    """One exception, and the one that the chain began with."""

    exception: str
    """The type and the whole message in one line, and a line for each member of a group."""
    frames: tuple[Frame, ...]
    """Outermost first; for a SyntaxError, the place that can't be parsed."""
    root: str | None
    """The type and message of the first exception of the chain, if there is a chain."""
    is_at_end: bool
    """Nothing relevant comes after it: it ended the program."""
    is_wrapper: bool = False
    """It says only that another process failed."""
    is_survived: bool = False
    """The program continued its work after it."""


@dataclass(frozen=True, slots=True)
class Log:
    """What the end of one stream says."""

    tracebacks: tuple[Traceback, ...]
    """The last traceback of each rank, in the order of the ranks' first lines; wrappers last."""
    words: tuple[str, ...]
    """The relevant lines that belong to no traceback and are not about progress."""
    launched: str = ""
    """The rank that failed first and how it ended, according to torchrun."""


@dataclass(frozen=True, slots=True)
class _Block:
    exception: str
    frames: tuple[Frame, ...]
    start: int
    end: int


def read_log(text: str) -> Log:
    """Parse the end of a stream."""
    found: list[Traceback] = []
    words: list[str] = []
    for lines in lines_of(text).values():
        blocks = list(_blocks(lines))
        loose = _loose(lines, blocks)
        own = [block for block in blocks if not WRAPPERS.match(block.exception)]
        for group in (own, [block for block in blocks if block not in own]):
            if group:
                end = group[-1].end
                after = [line for number, line in loose if number >= end]
                found.append(_chained(lines, group, after, is_survived=_continues(lines[end:])))
        words += [line for _, line in loose if not PROGRESS.match(line)]
    ranked = sorted(found, key=lambda traceback: traceback.is_wrapper)
    return Log(tuple(ranked), tuple(words), _launched(text))


def last_traceback(text: str) -> Traceback | None:
    """Return the last complete traceback in `text`, with its chain; never a wrapper."""
    found = read_log(text).tracebacks
    own = [traceback for traceback in found if not traceback.is_wrapper]
    return own[-1] if own else None


def fatal_error(text: str) -> Traceback | None:
    """Return what Python's fault handler wrote about a crash, with the crashed thread's frames."""
    lines = lines_of(text).get("", [])
    starts = [number for number, line in enumerate(lines) if FATAL.match(line)]
    if not starts:
        return None
    frames: list[Frame] = []
    threads = [n for n in range(starts[-1], len(lines)) if CURRENT_THREAD.match(lines[n])]
    current = [n for n in threads if lines[n].startswith("Current")] or threads
    for line in lines[current[0] + 1 :] if current else []:
        place = FATAL_FRAME.fullmatch(line)
        if not place:
            break
        frames.insert(0, Frame(place["file"], int(place["line"]), place["function"], ""))
    return Traceback(lines[starts[-1]], tuple(frames), root=None, is_at_end=True)


def _chained(
    lines: list[str], blocks: list[_Block], after: list[str], *, is_survived: bool
) -> Traceback:
    """Return the last of the blocks, with the chain that it ends."""
    last = blocks[-1]
    first = len(blocks) - 1
    while first > 0 and _is_linked(lines, blocks[first - 1]):
        first -= 1
    root = blocks[first]
    is_same = root.exception == last.exception  # raised once more by a worker's parent
    return Traceback(
        exception=last.exception,
        frames=(*last.frames, *root.frames) if is_same and root is not last else last.frames,
        root=None if is_same else root.exception,
        is_at_end=len(after) <= 2 and not is_survived,
        is_wrapper=bool(WRAPPERS.match(last.exception)),
        is_survived=is_survived,
    )


def _continues(lines: list[str]) -> bool:
    """Return whether a training continues after a traceback: it logs steps, or many records."""
    records = [line for line in lines if RECORD.search(line)]
    return len(records) >= MANY_RECORDS or any(map(PROGRESS.match, lines))


def _blocks(lines: list[str]) -> Iterator[_Block]:
    """Yield runs of frames with the exception below; that of a SyntaxError has no header."""
    frames: list[Frame] = []
    start = end = 0
    for number, line in enumerate(lines):
        if number < end:
            continue
        if line == HEADER:
            frames, start = [], number
        elif found := FRAME.fullmatch(line):
            start = start if frames or lines[start] == HEADER else number
            frames.append(_frame(found, lines[number + 1 : number + 2]))
        elif frames and line and not line.startswith(" "):
            end = _end_of_message(lines, number + 1)
            yield _Block(_join(lines[number:end]), tuple(frames), start, end)
            frames, start = [], end


def _frame(found: re.Match[str], below: list[str]) -> Frame:
    code = below[0].strip() if below and below[0].startswith("    ") else ""
    return Frame(found["file"], int(found["line"]), found["function"] or "", code)


def _end_of_message(lines: list[str], start: int) -> int:
    """Return the line after a message, which may have any number of lines.

    Nothing marks its end but what comes next: a traceback, a record of a log, a line of progress.
    """
    end = start
    is_table = TABLE in lines[start - 1]
    for number in range(start, min(len(lines), start + MESSAGE_LINES)):
        line = lines[number]
        if line.endswith(HEADER) or line in LINKS or FRAME.fullmatch(line):
            break
        if line and not is_table and (NOISE.search(line) or PROGRESS.match(line)):
            break
        end = number + 1 if line else end
    return end


def _join(lines: list[str]) -> str:
    members = "\n".join(lines).split(MEMBER)
    return "\n".join(" ".join(member.split()) for member in members)


def _is_linked(lines: list[str], block: _Block) -> bool:
    following = [line for line in lines[block.end : block.end + 4] if line.strip(' "')]
    return bool(following) and following[0] in LINKS


def _loose(lines: list[str], blocks: list[_Block]) -> list[tuple[int, str]]:
    """Return the relevant lines that belong to no traceback, with their numbers."""
    inside = {number for block in blocks for number in range(block.start, block.end)}
    return [
        (number, line)
        for number, line in enumerate(lines)
        if number not in inside and line not in LINKS and not NOISE.search(line)
    ]


def _launched(text: str) -> str:
    found = ROOT_CAUSE.search(text)
    if not found:
        return ""
    code = int(found["code"])
    name = Signals(-code).name if -code in map(int, Signals) else f"exit code {code}"
    return f"rank {found['rank']} ended {'by' if name.startswith('SIG') else 'with'} {name}"


def recorded_error(path: Path | None) -> Traceback | None:
    """Return the exception in a file of torch's `record`; None without such a file."""
    try:
        with open(path or "", "rb") as file:
            message = json.loads(file.read(RECORD_LIMIT))["message"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if isinstance(message, str):  # torch's C++ code writes it so
        return _one_line(message)
    if not isinstance(message, dict):
        return None
    extra = message.get("extraInfo")
    stack = extra.get("py_callstack") if isinstance(extra, dict) else None
    found = last_traceback(stack) if isinstance(stack, str) else None
    text = message.get("message")
    return found or (_one_line(text) if isinstance(text, str) else None)


def _one_line(text: str) -> Traceback | None:
    words = " ".join(text[:RECORD_CHARACTERS].split())
    return Traceback(words, frames=(), root=None, is_at_end=True) if words else None
