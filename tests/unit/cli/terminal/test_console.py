"""What a container, a client or a file wrote does not steer the terminal."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagemaker_byoc.cli.terminal import console

RED, PLAIN = "\x1b[31m", "\x1b[0m"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("loss 0.5 é 漢 🎉\tx", "loss 0.5 é 漢 🎉\tx"),
        ("\x1b]0;title\x07a", "a"),
        ("\x1b]52;c;ZXZpbA==\x1b\\a", "a"),  # the clipboard
        ("\x9d0;title\x9ca", "a"),
        ("\x9d\x9d0;title\x9ca", "\\x9da"),  # looked through once, not once for each start
        ("\x1b]8;;https://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b[2J\x1b[1;1Ha\x1b[K\x9b2J", "a"),
        ("\x1bP1$r\x1b\\\x1b_x\x1b\\a", "a"),
        ("\x1bca\x1b7\x1b(0", "a"),
        (f"{RED}a{PLAIN}\x1b[38;5;1mb", "ab"),
        ("\x1b]0;never ended", "\\x1b]0;never ended"),
        ("\x1b", "\\x1b"),
        ("a\x07\x00\x08\x7f\x85", "a\\x07\\x00\\x08\\x7f\\x85"),
        ("user\u202egnp.exe\u2028\ud800", "user\\u202egnp.exe\\u2028\\ud800"),
        ("\x1b[3\x1b[2J1mx", "\\x1b[31mx"),  # what is left forms no new sequence
        ("two\nlines", "two\nlines"),
    ],
)
def test_no_byte_steers_the_terminal(text, shown):
    assert console.clean(text) == shown


def test_colours_stay_where_they_are_wanted():
    """And end with the text; nothing else stays."""
    text = f"{RED}a\x1b[2J\x1b]0;t\x07"
    assert console.clean(text, colour=True) == f"{RED}a{PLAIN}"


def test_a_line_of_a_log():
    """The last state of a progress bar, and no more than can be read."""
    assert console.clean_line("10%\r50%\r100%\r\n") == "100%"
    assert console.clean_line("a\tb") == "a\tb"
    most = console.LONGEST_LINE
    shown = console.clean_line("x" * (most + 5))
    assert shown == "x" * most + " … (5 more characters)"


@pytest.mark.parametrize("say", [console.step, console.detail, console.result])
def test_every_way_out_is_clean(say, capsys, monkeypatch):
    """Also where colours are forced: these texts have none of their own."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    say("a\x1b]0;t\x07\x1b[2J\x1b[31m")
    text = "".join(capsys.readouterr())
    assert "\x1b]" not in text
    assert "2J" not in text
    assert RED not in text


@pytest.mark.parametrize(
    ("variables", "has_colour"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
)
def test_log_lines_and_errors_are_clean(capsys, monkeypatch, variables, has_colour):
    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    line = f"{RED}a\x1b[2J\x1b]0;t\x07"
    console.log_line("algo-1", line)
    console.result_line("algo-1", line)
    console.error("it\x1b[2J failed", "look\x07")
    out, err = capsys.readouterr()
    for text in (out, err):
        assert "2J" not in text
        assert "\x07" not in text
        assert (RED in text) is has_colour


@settings(deadline=None)
@given(
    st.text(
        st.one_of(
            st.sampled_from("\x1b\x9b\x9d\x90[]();?0123456789mKHJP\\\x07\x08\r\n\t\u202e\u2066"),
            st.characters(),
        )
    )
)
def test_nothing_gets_through(text):
    """With colours only SGR is left of any text, without them no control character."""
    bidi = r"\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
    harmless = re.compile(rf"[^\x00-\x08\x0b-\x1f\x7f-\x9f{bidi}]*")
    assert harmless.fullmatch(console.clean(text))
    coloured = re.sub(r"\x1b\[[0-9;:]*m", "", console.clean(text, colour=True))
    assert harmless.fullmatch(coloured)
    assert "\n" not in console.clean_line(text.replace("\n", ""))
