"""The words that the docker client is given, and what its own words mean."""

from __future__ import annotations

import os

import pytest

from sagemaker_byoc.host import docker

ID = "sha256:7b6244d0731002680ffd1e48ee1818cda900711e1f4b8bb00247870c0a2bf2d9"


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("curves", "curves:latest"),  # else all tags of the repository
        ("curves:1", "curves:1"),
        ("127.0.0.1:5000/team/curves", "127.0.0.1:5000/team/curves:latest"),
        ("127.0.0.1:5000/team/curves:1", "127.0.0.1:5000/team/curves:1"),
        (f"curves@{ID}", f"curves@{ID}"),
        ("7b6244d07310", "7b6244d07310"),
        (ID, ID),
    ],
)
def test_one_image_is_saved(tmp_path, monkeypatch, name, asked):
    client = tmp_path / "docker"
    client.write_text('#!/bin/sh\nprintf "%s " "$@"\n')
    client.chmod(0o755)
    monkeypatch.setenv("DOCKER", str(client))
    with docker.saved(name, ID) as stream:
        assert stream.read().decode() == f"save {asked} "


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_signal_is_not_taken_for_the_engines_refusal(tmp_path, monkeypatch, error):
    client = tmp_path / "docker"
    client.write_text("#!/bin/sh\necho interrupted >&2\nexit 1\n")
    client.chmod(0o755)
    monkeypatch.setenv("DOCKER", str(client))

    def read():
        with docker.output_of("save", "x") as stream:
            stream.read()
            raise error

    with pytest.raises(error):
        read()


def test_ctrl_c_does_not_reach_the_client(tmp_path, monkeypatch):
    """It is in another session, so that the terminal's SIGINT is this process's alone."""
    client = tmp_path / "docker"
    client.write_text("#!/bin/sh\nexec ps -o sid= -p $$\n")
    client.chmod(0o755)
    monkeypatch.setenv("DOCKER", str(client))
    with docker.output_of("save", "x") as stream:
        assert int(stream.read()) != os.getsid(0)
    assert int(docker.run("info")) != os.getsid(0)


RESOLVE = "unable to resolve docker endpoint: "
CONTEXT = f"{RESOLVE}context"
CONNECT = "error during connect: "
SAID = [
    (f'{CONTEXT} "a b" does not exist', "no docker context 'a b'", "DOCKER_CONTEXT"),
    (f'{CONTEXT} "x": context not found: open /h/m', "no docker context 'x'", "docker context ls"),
    (f"{RESOLVE}Invalid bind address format: foo://bar", "DOCKER_HOST 'foo://bar'", "unix:///PATH"),
    (
        f"{RESOLVE}open /root/.docker/ca.pem: no such file or directory",
        "can't read its certificates: open /root/.docker/ca.pem",
        "DOCKER_CERT_PATH",
    ),
    (f"{RESOLVE}something new", "can't tell where its engine is: something new", "DOCKER_HOST"),
    (
        (
            "permission denied while trying to connect to the Docker daemon socket at "
            'unix:///d.sock: Get "http://%2Fvar/version": dial unix /d.sock: connect: denied'
        ),
        "no permission to use the Docker engine at unix:///d.sock",
        "group docker",
    ),
    (
        f'{CONNECT}Get "http://no.invalid:1/": dial tcp: lookup no.invalid on 10.0.0.1:53: no such',
        "names no.invalid, a host that is not known",
        "Correct the name",
    ),
    (
        (
            f"{CONNECT}command [ssh -- h docker system dial-stdio] has exited with exit status "
            "255, make sure the URL is valid: stderr=Host key verification failed."
        ),
        "over ssh: Host key verification failed.",
        "ssh HOST docker version",
    ),
    (
        "Error response from daemon: client version 1.99 is too new. Maximum supported is 1.41",
        "do not fit: 1.99",
        "DOCKER_API_VERSION",
    ),
    (
        "Cannot connect to the Docker daemon at unix:///x.sock. Is the docker daemon running?",
        "no Docker engine answers at unix:///x.sock",
        "systemctl start docker",
    ),
    (f'{CONNECT}Get "http://x": EOF', "no Docker engine answers", "byoc doctor"),
    (f"{CONNECT}x509: signed by unknown authority", "with TLS: x509: signed", "DOCKER_TLS_VERIFY"),
    ("Cannot connect to Podman. Please verify", "no podman service answers", "podman machine"),
]


@pytest.mark.parametrize(("said", "what", "hint"), SAID)
def test_why_no_engine_answers(said, what, hint):
    """As docker 20.10.24 and 28.2.2 say it: each cause has its own hint."""
    found = docker.unreachable(said)
    assert what in found.what
    assert hint in found.hint


def test_other_words_are_no_missing_engine():
    assert docker.unreachable("Error: No such image: x") is None


def test_the_cause_is_asked_of_the_client_itself(tmp_path):
    client = tmp_path / "docker"
    client.write_text(f"#!/bin/sh\necho '{CONTEXT} \"x\" does not exist' >&2\nexit 1\n")
    client.chmod(0o755)
    assert docker.explain([str(client), "--version"]).what == "there is no docker context 'x'"
    client.write_text("#!/bin/sh\nexit 1\n")
    assert "--version` failed: it said nothing" in docker.explain([str(client), "--version"]).what
    client.chmod(0o644)
    assert "Permission denied" in docker.explain([str(client), "--version"]).what
