"""YAML that every reader takes for what was meant."""

from __future__ import annotations

import re

import pytest
import yaml

from sagemaker_byoc.cli.commands.launch import as_yaml


def test_a_document():
    assert as_yaml([{"kind": "Pod", "n": 3, "on": True, "none": None, "args": ["train", "y"],
                  "env": [{"name": "A", "value": "1"}, {"name": "B"}],
                  "empty": {}, "nothing": [], "nested": [[1, 2], [{"a": "b"}]]}]) == (
        "kind: Pod\n"
        '"n": 3\n'
        '"on": true\n'
        "none: null\n"
        "args:\n"
        "- train\n"
        '- "y"\n'
        "env:\n"
        "- name: A\n"
        '  value: "1"\n'
        "- name: B\n"
        "empty: {}\n"
        "nothing: []\n"
        "nested:\n"
        "- - 1\n"
        "  - 2\n"
        "- - a: b\n"
    )  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["", "yes", "No", "null", "~", "1", "1.0", "0x1f", "1e3", "2026-01-01", "12:30", "- a", "a: b",
     "a #b", "*x", "&x", "!x", "%x", "@x", "`x`", "{a}", "[a]", "'a'", '"a"', "a\nb", " a", "a ",
     "\u2028", "é", "\x07", "=", "<<", "---", "...", "|", ">", "?", ".inf", ".5", "a:"],
)  # fmt: skip
def test_what_could_be_misread_is_quoted(text):
    """In ASCII and on one line."""
    line = as_yaml([{"key": text}])
    assert yaml.safe_load(line) == {"key": text}
    assert line.isascii()
    assert re.fullmatch(r'key: ".*"\n', line)


def test_a_character_is_one_escape():
    """Readers of YAML refuse the two halves in which JSON writes it (go-yaml: scannerc.go)."""
    assert as_yaml([{"key": "\U0001f600\x7f"}]) == 'key: "\\U0001F600\\x7F"\n'


@pytest.mark.parametrize(
    "text", ["train", "/opt/ml/model", "byoc:latest", "apps/v1", "a-b.c_d", "pvc:data/x"]
)
def test_what_can_not_be_is_plain(text):
    assert as_yaml([{"key": text}]) == f"key: {text}\n"


def test_documents_are_separated():
    assert as_yaml([{"a": 1}, {"b": 2}]) == "a: 1\n---\nb: 2\n"
