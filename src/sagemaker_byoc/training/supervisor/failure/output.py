"""The end of a program's output, as plain lines: without colours, labels, boxes and margins.

Programs that draw their tracebacks (rich, typer, IPython, Python's own exception groups) become
lines in Python's plain form here, so that one parser reads them all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

HEADER = "Traceback (most recent call last):"
LINE_LIMIT = 2000
"""Characters of one line that are looked at."""
CONTROL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)|\x1b[@-Z\\-_]?"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)
LABEL = re.compile(r"^\[(?:rank|default)(?P<rank>\d+)\]: ?")
"""Torch's and torchrun's, before each line of a rank."""
BAR = re.compile(r"^[^'\"]{0,200}?\d%\|[^|]{0,300}\| [^ ]{1,40}/[^ ]{1,40} \[[^\]]{0,300}\](?=\S)")
"""A progress bar of tqdm's that was not ended: what a program says next is in its line."""

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
"""Begins the line of each member; no line of a program has a control character any more."""

NOTEBOOK_HEADER = re.compile(r"^(?P<name>[A-Za-z_][\w.]*) {2,}Traceback \(most recent call last\)$")
NOTEBOOK_FRAME = re.compile(
    r"^(?:File |Cell )?(?P<file>[^,]+?)(?::|, line )(?P<line>\d+)(?:, in (?P<function>[^(]+).*)?$"
)
NOTEBOOK_CODE = re.compile(r"^-+> +\d+ (?P<code>.*)$")


def lines_of(text: str) -> dict[str, list[str]]:
    """Return the lines of each labelled rank, and those without a label under ""."""
    streams: dict[str, list[str]] = {}
    for line in text.splitlines():
        plain = BAR.sub("", CONTROL.sub("", _shortened(line)).rstrip())
        found = LABEL.match(plain)
        label = found["rank"] if found else ""
        streams.setdefault(label, []).append(plain[found.end() :] if found else plain)
    return {label: list(_plain(lines)) for label, lines in streams.items()}


def _shortened(line: str) -> str:
    return line if len(line) <= LINE_LIMIT else f"{line[: LINE_LIMIT - 500]} … {line[-500:]}"


def _plain(lines: list[str]) -> Iterator[str]:
    """Yield the lines with every drawing replaced by its plain form."""
    rest = iter(lines)
    margin = ""
    for whole in rest:
        margin = margin if whole.startswith(margin) else ""
        line = whole.removeprefix(margin)
        if top := BOX_TOP.match(line):
            margin += line[: len(line) - len(line.lstrip())]  # rich's log handler has one
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
        goes_on = bool(content) and not found and content[0] not in EDGES + " "
        # rich breaks a line at a space, or else, after a full line, within a word.
        begun = f"{begun}{content}{' ' if padded.endswith('  ') else ''}" if goes_on else ""


def _group(rest: Iterator[str]) -> Iterator[str]:
    """A group as one exception whose message names its members, with the first one's frames."""
    parts: list[list[str]] = [[]]
    held: list[str] = []
    """Later lines of a message have no margin; they are the group's if more of it follows."""
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
