"""Every flag of every command, misused: exit 2, one line that names it, and a hint."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from sagemaker_byoc.cli.main import SHELLS, completion_script, main, parser
from sagemaker_byoc.cli.terminal import console, failures
from sagemaker_byoc.cli.terminal.arguments import Parser

ROOT = parser()


def leaves(at: argparse.ArgumentParser, words: tuple[str, ...] = ()):
    """Each command's words and its parser."""
    below = [a for a in at._actions if isinstance(a, argparse._SubParsersAction)]
    if not below:
        yield words, at
    for action in below:
        for name, sub in action.choices.items():
            yield from leaves(sub, (*words, name))


def plausible(action: argparse.Action) -> list[str]:
    """A value that the parser takes."""
    if action.nargs in {0, "?", "*"}:
        return []
    if action.choices:
        return [str(next(iter(action.choices)))]
    for value in ("1", "a=1", "x"):
        try:
            (action.type or str)(value)
        except (ValueError, argparse.ArgumentTypeError):
            continue
        return [value]
    raise AssertionError(f"what does {action.option_strings} take?")


def complete(at: argparse.ArgumentParser) -> list[str]:
    """The least that `at` wants."""
    words = []
    for action in at._actions:
        if not action.option_strings:
            words += plausible(action)
        elif action.required:
            words += [action.option_strings[-1], *plausible(action)]
    return words


def refuses(value: str, action: argparse.Action) -> bool:
    try:
        action.type(value)
    except (ValueError, argparse.ArgumentTypeError):
        return True
    return False


def flag_misuses(least: list[str], action: argparse.Action):
    flag = action.option_strings[-1]
    if action.nargs == 0:
        if flag.startswith("--"):
            yield [*least, f"{flag}=value"], flag
    elif action.nargs not in {"?", "*"}:
        yield [*least, flag], flag
    if action.choices:
        yield [*least, flag, "no-such-choice"], "no-such-choice"
    elif callable(action.type) and refuses("no-such-value", action):
        yield [*least, flag, "no-such-value"], flag


def misuses():
    """(command line, what the message must name)."""
    for words, at in leaves(ROOT):
        least = [*words, *complete(at)]
        yield [*least, "--no-such-flag"], "--no-such-flag"
        if complete(at):
            yield [*words], at.prog
        for action in at._actions:
            if action.option_strings and not isinstance(action, argparse._HelpAction):
                yield from flag_misuses(least, action)
            elif action.choices:
                yield [*words, "no-such-choice", *complete(at)[1:]], "no-such-choice"
        for group in at._mutually_exclusive_groups:
            first, second = group._group_actions[:2]
            both = [first.option_strings[-1], *plausible(first)]
            both += [second.option_strings[-1], *plausible(second)]
            yield [*least, *both], first.option_strings[-1]


MISUSES = list(misuses())


def test_the_walk_meets_every_command():
    """And flags enough that something would be noticed if it met none."""
    commands = {words[0] for words, _ in leaves(ROOT)}
    assert {"init", "build", "check", "push", "train", "serve", "local", "doctor"} <= commands
    assert len(MISUSES) > 150


@pytest.mark.parametrize(
    ("words", "named"), MISUSES, ids=[" ".join(words)[:70] for words, _ in MISUSES]
)
def test_a_misused_flag(words, named, capsys):
    with pytest.raises(SystemExit) as refusal:
        ROOT.parse_args(words)
    out, err = capsys.readouterr()
    assert refusal.value.code == failures.USAGE
    assert out == ""
    what, hint = err.splitlines()
    assert what.startswith("error[USAGE]: byoc")
    assert named in what
    assert hint.startswith("  fix: ")
    assert len(hint) > len("  fix: ...")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["bild"], "Did you mean build?"),
        (["train", "x", "--engin", "docker"], "Did you mean --engine?"),
        (["train", "x", "--engine", "dcker"], "Did you mean docker?"),
        (["serve", "--model"], "Give it a value: --model DIR|model.tar.gz"),
        (["local", "up", "--port", "70000"], "Use 0 to 65535"),
        (["build", "train", "--build-arg", "BASE"], "Write --build-arg KEY=VALUE"),
        (["train", "x", "--channel", "data"], "Write --channel NAME=DIR"),
        (["build", "train", "--build-arg", "a; {b}"], "Write --build-arg KEY=VALUE"),
        (["train", "x", "a; b"], "`byoc train --help` shows what it takes"),
        (["monitor", "run"], "Write: byoc monitor run CAPTURES --baseline DIR --output DIR; `"),
        (["invoke"], "Write: byoc invoke ENDPOINT|URL; `"),
        (["launch"], "Write: byoc launch {train,endpoint}; `"),
        ([], "Write: byoc COMMAND; `"),
        (["build", "train", "--timeout", "nan"], "Give seconds, more than 0 and at most 86400"),
        (["local", "env", "--json", "--shell", "fish"], "Give only one of the two"),
    ],
)
def test_the_hint_fits(words, hint, capsys):
    assert main(words) == 2
    assert hint in capsys.readouterr().err


def test_misuse_from_a_shell():
    """The real program: nothing on stdout, and no colour where nobody looks."""
    command = [sys.executable, "-m", "sagemaker_byoc.cli", "build", "train", "--builder", "magic"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error[USAGE]: byoc build: argument --builder: invalid choice")
    assert "\033" not in done.stderr


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
)
def test_colour(variables, coloured, capsys, monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    console.error("what", "hint")
    assert ("\033[31m" in capsys.readouterr().err) is coloured


def test_ctrl_c_is_130(monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("sagemaker_byoc.cli.commands.init.run", interrupted)
    assert main(["init"]) == 130


@pytest.mark.slow
def test_a_reader_that_leaves_is_no_error():
    """`byoc … | head` says nothing on stderr."""
    command = f"{sys.executable} -m sagemaker_byoc.cli completion fish | head -c 1"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.stderr) == ("#", "")


def bash_completes(line: str, folder: Path) -> list[str]:
    words = line.split() + ([""] if line.endswith(" ") else [])
    program = completion_script("bash", ROOT) + (
        f"\nCOMP_WORDS=({' '.join(w or chr(39) * 2 for w in words)}); COMP_CWORD={len(words) - 1}; "
        f"$(complete -p byoc | grep -o '_shtab[a-z_]*') byoc '{words[-1]}' '{words[-2]}'; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", program], capture_output=True, text=True, check=True, cwd=folder
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("byoc bu", {"build"}),
        ("byoc local ", {"up", "env", "down", "gc"}),
        ("byoc build train --engine ", {"process", "docker"}),
        ("byoc local up --sta", {"--state"}),
        ("byoc train --channel ", {"a-file"}),
        ("byoc check a-f", {"a-file"}),
    ],
)
def test_bash_completes(line, expected, tmp_path):
    """Commands, flags, choices; files where nothing is known."""
    (tmp_path / "a-file").write_text("")
    assert expected <= set(bash_completes(line, tmp_path))


@pytest.mark.parametrize("shell", SHELLS)
def test_each_script_has_every_flag(shell, capsys):
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    flags = {f for _, at in leaves(ROOT) for a in at._actions for f in a.option_strings}
    missing = [f for f in flags if f.lstrip("-") not in text]
    assert missing == []


def test_json_is_offered_wherever_there_is_a_result():
    without = {
        " ".join(words)
        for words, at in leaves(ROOT)
        if "--json" not in {f for a in at._actions for f in a.option_strings}
    }
    # What they print is not ours: a script of a shell, and the answer of a model.
    assert without == {"completion", "invoke"}


def test_documents_carry_their_schema(capsys):
    console.document({"a": 1})
    assert json.loads(capsys.readouterr().out) == {"schema": 1, "a": 1}


@pytest.mark.parametrize(
    "words",
    [
        ["build", "train", "prog", "--tag", "x"],
        ["build", "train", "--tag", "x", "prog"],
        ["build", "--tag", "x", "train", "prog"],
        ["train", "--engine", "process", "prog"],
        ["serve", "--model", "m", "prog"],
    ],
)
def test_a_program_may_stand_before_or_after_flags(words):
    assert ROOT.parse_args(words).program == Path("prog")


def test_one_program_too_many(capsys):
    with pytest.raises(SystemExit):
        ROOT.parse_args(["build", "train", "--tag", "x", "one", "two"])
    assert "unrecognized arguments: two" in capsys.readouterr().err


def test_no_flag_is_abbreviated():
    assert all(at.allow_abbrev is False for _, at in leaves(ROOT))
    assert isinstance(ROOT, Parser)


def test_a_command_does_not_pay_for_the_others():
    """A shell that asks for the version, or for completion, waits for no region to be imported.

    All commands together don't import the library that draws bars.
    """
    program = (
        "import sys; from sagemaker_byoc.cli.main import main, parser; main(['--version'])\n"
        "print(*[name for name in sys.modules if name.startswith('sagemaker_byoc.')])\n"
        "parser()\n"
        "print([name for name in sys.modules if name.partition('.')[0] == 'rich'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    *_, found, drawing = done.stdout.splitlines()
    assert {name.split(".")[1] for name in found.split()} == {"cli", "contract"}
    assert drawing == "[]"
