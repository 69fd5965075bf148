"""The static rules over archives: each defect is found by its id, and a sound image has none."""

from __future__ import annotations

import json

import pytest
from tests.unit.images import made

from sagemaker_byoc.images import layers
from sagemaker_byoc.images.check.check import CheckRequest, check
from sagemaker_byoc.images.check.findings import as_json, as_junit, as_text

SOUND = {
    "usr": None,
    "usr/bin/python3": made.elf(),
    "bin": b"-> usr/bin",
    "usr/bin/sh": made.elf(),
    "opt/train.py": b"print(1)",
}
RUNS = {"Entrypoint": ["/bin/python3", "/opt/train.py"], "Cmd": ["train"]}


def ids(path, **more):
    report = check(CheckRequest(image=str(path), **more), lambda _: None)
    return sorted({finding.id for finding in report.findings if not finding.ignored})


def saved(tmp_path, files=None, mode=0o755, **inner):
    path = tmp_path / "image.tar"
    document = made.config(**{**RUNS, **inner})
    return made.saved(path, document, made.layer({**SOUND, **(files or {})}, mode=mode))


def test_a_sound_image_has_no_findings(tmp_path):
    assert ids(saved(tmp_path)) == []


@pytest.mark.parametrize(
    ("expected", "inner"),
    [
        ("IMG003", {"architecture": "arm64"}),
        ("IMG006", {"Entrypoint": ["/bin/sh", "-c", "python3 train.py"]}),
        ("IMG007", {"Entrypoint": None}),
        ("IMG009", {"Entrypoint": ["/opt/nothing"]}),
        ("IMG009", {"Entrypoint": ["nothing"]}),
        ("IMG011", {"User": "1000:1000", "ExposedPorts": {"8080/tcp": {}}}),
        ("IMG013", {"Volumes": {"/opt/ml/model": {}}}),
        ("SEC001", {"Env": ["DB_PASSWORD=hunter2"]}),
        ("SEC001", {"Env": ["X=AKIAABCDEFGHIJKLMNOP"]}),
        ("SEC002", {"history": ["RUN |1 PIP_TOKEN=abcdef123 /bin/sh -c pip install x"]}),
        ("SEC002", {"history": ["RUN pip install -i https://me:secret1@host/simple x"]}),
        ("CUD001", {"Env": ["CUDA_VERSION=14.1.0"]}),
        ("CUD002", {"Env": ["CUDA_VERSION=13.0.2"]}),
    ],
)
def test_what_the_configuration_says(tmp_path, expected, inner):
    assert ids(saved(tmp_path, **inner)) == [expected]


@pytest.mark.parametrize(
    ("expected", "path", "data"),
    [
        ("IMG012", "opt/ml/code/train.py", b"x"),
        ("CUD003", "usr/lib/libcuda.so.535.104.05", b"x"),
        ("CUD002", "opt/torch/version.py", b"cuda: Optional[str] = '13.0'\n"),
        ("SEC003", "root/.aws/credentials", b"[x]\naws_secret_access_key = abc"),
        ("SEC003", "app/key.pem", b"-----BEGIN RSA PRIVATE KEY-----\nMIIEow"),
        ("SEC003", "app/.env", b"DEBUG=1\nDB_PASSWORD=hunter2\n"),
        ("SEC003", "etc/pip.conf", b"index-url = https://me:secret1@host/simple\n"),
        ("SEC003", "app/settings.py", b'KEY = "AKIAABCDEFGHIJKLMNOP"'),
    ],
)
def test_what_the_files_say(tmp_path, expected, path, data):
    assert ids(saved(tmp_path, {path: data})) == [expected]


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("app/.env.example", b"DB_PASSWORD=change-me\n"),
        ("etc/ssl/certs/ca.pem", b"-----BEGIN CERTIFICATE-----\nMIIEow"),
        ("usr/lib/python3/site-packages/x/key.pem", b"-----BEGIN PRIVATE KEY-----\nMIIE"),
        ("usr/local/cuda/compat/libcuda.so.535.104.05", b"x"),
        ("opt/torch/version.py", b"cuda: Optional[str] = '12.6'\n"),
        ("app/docs.md", b"https://user:$PASSWORD@host"),
    ],
)
def test_what_is_no_defect(tmp_path, path, data):
    assert ids(saved(tmp_path, {path: data})) == []


@pytest.mark.parametrize(
    ("files", "where", "what"),
    [
        ({"opt/ml": b"x"}, "/opt/ml", "/opt/ml is a file"),
        ({"opt/ml/model": b"x"}, "/opt/ml/model", "/opt/ml/model is a file"),
        ({"opt/ml/input": b"x"}, "/opt/ml/input", "/opt/ml/input is a file"),
        ({"opt/ml": b"-> ml"}, "/opt/ml", "/opt/ml is a link to itself"),
        ({"opt/ml": b"-> /f", "f": b"x"}, "/opt/ml", "/opt/ml leads to /f, which is a file"),
        ({"opt": b"-> /f", "f": b"x"}, "/opt/ml", "/opt/ml leads to /f, which is a file"),
        ({"opt/ml": b"-> /data/ml", "data/ml": None}, "", ""),
        ({"opt/ml": b"-> /made/by/runc"}, "", ""),
        ({"opt/ml/model": None}, "", ""),
    ],
)
def test_what_is_in_the_way_of_a_mount(tmp_path, files, where, what):
    """Each was tried with runc 1.1.5; it makes folders that are missing, also through links."""
    config = made.config(Entrypoint=["/bin/run"], Cmd=["train"])
    path = tmp_path / "image.tar"
    made.saved(path, config, made.layer({"bin/run": made.elf(), **files}, mode=0o755))
    findings = check(CheckRequest(image=str(path)), lambda _: None).findings
    assert [finding.id for finding in findings] == (["IMG016"] if what else [])
    assert not what or (findings[0].where, findings[0].what) == (where, what)


@pytest.mark.parametrize(
    ("signal", "is_found"),
    [
        ("SIGKILL", True), ("sigkill", True), ("KILL", True), ("9", True), ("SIGSTOP", True),
        ("19", True), ("SIGTERM", False), ("SIGQUIT", False), ("SIGRTMIN+3", False), ("", False),
    ],
)  # fmt: skip
def test_a_stop_signal_that_no_program_can_handle(tmp_path, signal, is_found):
    assert ids(saved(tmp_path, StopSignal=signal)) == (["IMG017"] if is_found else [])


def test_code_where_aws_has_it_copied_is_no_mistake(tmp_path):
    """The guide adapt-training-container copies it there and names it in SAGEMAKER_PROGRAM."""
    files = {"opt/ml/code/train.py": b"x"}
    assert ids(saved(tmp_path, files, Env=["SAGEMAKER_PROGRAM=train.py"])) == []


def test_the_text_names_what_ignores_a_finding(tmp_path):
    """Written into the configuration as it is, it ignores this finding."""
    path = saved(tmp_path, Env=["DB_PASSWORD=hunter2"])
    text = as_text(check(CheckRequest(image=str(path)), lambda _: None))
    assert '  to ignore it: "SEC001:DB_PASSWORD" = "your reason"\n' in text
    assert ids(path, ignored={"SEC001:DB_PASSWORD": "your reason"}) == []


def test_limits_that_were_reached_are_said(tmp_path, monkeypatch):
    monkeypatch.setattr(layers, "LOOKED_INTO_LIMIT", 2)
    path = saved(tmp_path, {f"app/{number}.txt": b"text" for number in range(5)})
    report = check(CheckRequest(image=str(path)), lambda _: None)
    assert "secrets in 4 files of layer 0" in report.notes[0]
    assert report.notes[0] in as_text(report)


@pytest.mark.parametrize(
    ("files", "mode", "expected"),
    [
        ({"usr/bin/train": b"#!/bin/sh\n"}, 0o644, ["IMG008"]),
        ({"usr/bin/train": b"#!/bin/sh\r\n"}, 0o755, ["IMG008"]),
        ({"usr/bin/train": b"#!/usr/bin/python9\n"}, 0o755, ["IMG008"]),
        ({"usr/bin/train": b"#!/bin/sh\n"}, 0o755, []),
    ],
)
def test_a_program_on_path(tmp_path, files, mode, expected):
    assert ids(saved(tmp_path, files, mode, Entrypoint=None)) == expected


def test_one_cuda_version_stated_three_times_is_one_finding(tmp_path):
    files = {"opt/torch/version.py": b"cuda: str = '13.0'\n", "usr/local/cuda-13.0/x": b"x"}
    path = saved(tmp_path, files, Env=["CUDA_VERSION=13.0.2"])
    findings = check(CheckRequest(image=str(path)), lambda _: None).findings
    assert [finding.id for finding in findings] == ["CUD002"]


def test_a_secret_that_a_later_layer_removes_is_found(tmp_path):
    first = made.layer({**SOUND, "app/.env": b"DB_PASSWORD=hunter2\n"}, mode=0o755)
    second = made.layer({"app/.wh..env": b""})
    path = made.saved(tmp_path / "image.tar", made.config(**RUNS), first, second)
    (finding,) = check(CheckRequest(image=str(path)), lambda _: None).findings
    assert finding.where == "/app/.env, layer 0"
    assert "a later layer removes it" in finding.what


def test_no_report_shows_the_secret(tmp_path):
    secret = "AKIAABCDEFGHIJKLMNOP"
    inner = {"Env": [f"A={secret}", f"B_TOKEN={secret}x"], "history": [f"RUN export K={secret}"]}
    path = saved(tmp_path, {"app/.env": f"X_SECRET={secret}".encode()}, **inner)
    report = check(CheckRequest(image=str(path)), lambda _: None)
    assert {finding.id for finding in report.findings} == {"SEC001", "SEC002", "SEC003"}
    assert secret not in as_text(report) + as_json(report) + as_junit(report)


def test_an_ignored_finding_keeps_its_reason_and_costs_nothing(tmp_path):
    path = saved(tmp_path, architecture="arm64")
    request = CheckRequest(image=str(path), ignored={"IMG003": "Graviton hosting"})
    report = check(request, lambda _: None)
    assert report.exit_code == 0
    assert "ignored: Graviton hosting" in as_text(report)
    assert check(CheckRequest(image=str(path)), lambda _: None).exit_code == 1


def test_warnings_alone_are_exit_code_0(tmp_path):
    path = saved(tmp_path, {"opt/ml/code/train.py": b"x"})
    report = check(CheckRequest(image=str(path)), lambda _: None)
    assert [finding.severity for finding in report.findings] == ["warning"]
    assert report.exit_code == 0


def test_an_oci_layout_is_refused_and_an_attested_one_named(tmp_path):
    document = made.config(**RUNS)
    plain = made.layout(tmp_path / "plain", document, made.layer(SOUND, mode=0o755))
    assert ids(plain) == ["IMG001"]
    attested = made.layout(
        tmp_path / "attested", document, made.layer(SOUND, mode=0o755), attested=True
    )
    report = check(CheckRequest(image=str(attested)), lambda _: None)
    assert [finding.id for finding in report.findings] == ["IMG002"]
    assert "linux/amd64 and 1 attestation" in report.findings[0].what


def test_json_and_junit_say_the_same(tmp_path):
    report = check(CheckRequest(image=str(saved(tmp_path, architecture="arm64"))), lambda _: None)
    document = json.loads(as_json(report))
    assert (document["schema"], document["exit_code"]) == (1, 1)
    assert [finding["id"] for finding in document["findings"]] == ["IMG003"]
    xml = as_junit(report)
    assert 'failures="1"' in xml
    assert 'name="IMG003"' in xml
