"""Which program copies an image: docker, if its engine pushes Docker's types and gets there."""

from __future__ import annotations

import json
import socket

import pytest

from sagemaker_byoc.host.registry_images import Reference
from sagemaker_byoc.images.push import copying, programs
from sagemaker_byoc.images.push.copying import UNKNOWN_REGISTRY, Push
from sagemaker_byoc.images.push.programs import How, Layers

HERE, ELSEWHERE = "127.0.0.1:5000", "r.example"
CLASSIC = {
    "Name": socket.gethostname(),
    "DriverStatus": [["Backing Filesystem", "extfs"]],
    "SecurityOptions": ["name=seccomp,profile=default"],
    "HttpsProxy": "",
}
CONTAINERD = [["driver-type", "io.containerd.snapshotter.v1"]]
ROOTLESS = ["name=rootless"]
ELSEWHERES_NAME = "docker-desktop"


class Screen:
    is_terminal = False

    def __init__(self):
        self.notes, self.layers = [], []

    def note(self, text):
        self.notes.append(text)

    def layer(self, number, name, how):
        self.layers.append((name, how))


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for name in ("SSL_CERT_FILE", "AWS_CA_BUNDLE", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(programs, "has_skopeo", lambda: True)


@pytest.fixture
def engine(monkeypatch, tmp_path):
    """Make a docker client that says this of its engine."""

    def make(*components, fails="", **info):
        script = ["#!/bin/sh", f'[ "$1" = "{fails}" ] && exit 1', 'cat "$0.$1"']
        client = tmp_path / "docker"
        client.write_text("\n".join(script))
        client.chmod(0o700)
        version = {"Components": [{"Name": name} for name in components or ("Engine", "runc")]}
        (tmp_path / "docker.version").write_text(json.dumps(version))
        (tmp_path / "docker.info").write_text(json.dumps({**CLASSIC, **info}))
        monkeypatch.setenv("DOCKER", str(client))

    return make


def chosen(registry=HERE, source="mine:1", **more):
    push = Push(
        source=source,
        platform="linux/amd64",
        destination=Reference(registry, "mine", "1"),
        find_login=lambda _: None,
        screen=Screen(),
        **more,
    )
    return "skopeo" if copying.is_for_skopeo(push) else "docker"


@pytest.mark.parametrize("registry", [HERE, ELSEWHERE, UNKNOWN_REGISTRY, "localhost:5000"])
def test_a_docker_engine_pushes_its_own_images(engine, registry):
    engine()
    assert chosen(registry) == "docker"


@pytest.mark.parametrize("info", [{"DriverStatus": CONTAINERD}, {"DriverStatus": None}])
def test_containerds_store_keeps_other_types(engine, info):
    engine(**info)
    assert chosen() == ("skopeo" if info["DriverStatus"] else "docker")


@pytest.mark.parametrize("fails", ["version", "info"])
def test_an_engine_that_does_not_say_what_it_is(engine, fails):
    engine(fails=fails)
    assert chosen() == "skopeo"


def test_podman_behind_dockers_client(engine):
    engine("Podman Engine", "Conmon")
    assert chosen() == "skopeo"


@pytest.mark.parametrize("source", ["docker://r.example/x:1", "oci:somewhere"])
def test_only_an_image_of_the_engine_goes_by_docker(engine, source):
    engine()
    assert chosen(source=source) == "skopeo"


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "AWS_CA_BUNDLE"])
def test_an_authority_that_the_engine_does_not_read(engine, monkeypatch, name):
    engine()
    monkeypatch.setenv(name, "/company.pem")
    assert chosen(ELSEWHERE) == "skopeo"
    assert chosen(HERE) == "docker"  # without TLS


def test_a_registry_elsewhere_without_tls(engine):
    engine()
    assert chosen(ELSEWHERE, insecure=True) == "skopeo"
    assert chosen(HERE, insecure=True) == "docker"


def test_a_proxy_that_the_engine_does_not_use(engine, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    engine()
    assert chosen(ELSEWHERE) == "skopeo"
    assert chosen(HERE) == "docker"
    engine(HttpsProxy="http://proxy:3128")
    assert chosen(ELSEWHERE) == "docker"


@pytest.mark.parametrize("info", [{"Name": ELSEWHERES_NAME}, {"SecurityOptions": ROOTLESS}])
def test_an_engine_with_another_loopback(engine, info):
    engine(**info)
    assert chosen(HERE) == "skopeo"
    assert chosen(UNKNOWN_REGISTRY) == "skopeo"
    assert chosen(ELSEWHERE) == "docker"


def test_docker_knows_no_ipv6_addresses(engine):
    engine()
    assert chosen("[::1]:5000") == "skopeo"


def test_without_skopeo_docker_pushes_whatever_the_engine_is(engine, monkeypatch):
    monkeypatch.setattr(programs, "has_skopeo", lambda: False)
    engine(fails="version")
    assert chosen(ELSEWHERE, insecure=True) == "docker"


def test_each_countdown_of_docker_is_shown_once():
    layers = Layers(Screen())
    for text in ("2 seconds", "1 second", "10 seconds", "9 seconds"):
        layers.read(f"0123456789ab: Retrying in {text}")
    layers.read("0123456789ab: Pushed")
    assert layers.screen.notes == [
        "layer 0123456789ab broke off; again in 2 s",
        "layer 0123456789ab broke off; again in 10 s",
    ]
    assert layers.screen.layers == [("0123456789ab", How.SENT)]
