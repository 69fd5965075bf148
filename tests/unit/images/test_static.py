"""The static rules over archives: each defect is found by its id, and a sound image has none."""

from __future__ import annotations

import json

import pytest
from tests.unit.images import made

from sagemaker_byoc.images.check import CheckRequest, check
from sagemaker_byoc.images.report import as_json, as_junit, as_text

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
