"""What a build records of its image: the base, the torch that is there, the packages."""

from __future__ import annotations

import io

import pytest
from tests.unit.images.made import layer

from sagemaker_byoc.images.build import labels as image_labels
from sagemaker_byoc.images.build import sbom
from sagemaker_byoc.images.build.builders import Builder
from sagemaker_byoc.images.build.labels import DIGEST_LABEL, NAME_LABEL, base_of, labels

DIGEST = f"sha256:{'0' * 64}"
DOCKER = Builder(name="buildkit", version="1", command=("docker", "build"))


@pytest.mark.parametrize(
    ("dockerfile", "arguments", "base"),
    [
        ("FROM python:3.11", {}, "python:3.11"),
        ("# x\nARG BASE=a:1\nFROM ${BASE} AS one\nFROM one\n", {}, "a:1"),
        (
            "ARG BASE=a:1\nFROM $BASE as One\nFROM b\nFROM one",
            {"BASE": f"c@{DIGEST}"},
            f"c@{DIGEST}",
        ),
        ("from --platform=linux/amd64 a:1", {}, "a:1"),
        ("ARG T=cpu R=\nARG O=${R:+other}\nARG B=${O:-$T}\nFROM a AS t-cpu\nFROM t-${B}", {}, "a"),
        (
            (
                "ARG T=cpu R=\nARG O=${R:+other}\nARG B=${O:-$T}\nFROM a AS t-cpu\n"
                "FROM b AS t-other\nFROM t-${B}"
            ),
            {"R": "torch"},
            "b",
        ),
        ("FROM a AS one\nFROM b\nCOPY --from=one x y\nFROM 0", {}, "a"),
        ("FROM \\\n  a:1 \\\n  AS x\n", {}, "a:1"),
        ("FROM scratch", {}, ""),
        ("FROM $UNSET", {}, ""),
        ("", {}, ""),
    ],
)
def test_the_base_is_the_last_stages(dockerfile, arguments, base):
    assert base_of(dockerfile, arguments) == base


@pytest.mark.parametrize(
    ("base", "said", "expected"),
    [
        (f"a@{DIGEST}", None, {NAME_LABEL: f"a@{DIGEST}", DIGEST_LABEL: DIGEST}),
        ("h:5000/a:1", f'["h:5000/a@{DIGEST}"]', {NAME_LABEL: "h:5000/a:1", DIGEST_LABEL: DIGEST}),
        ("a:1", f'["other@{DIGEST}"]', {NAME_LABEL: "a:1"}),
        ("a:1", f'["not-a@{DIGEST}"]', {NAME_LABEL: "a:1"}),
        (
            "a:1",
            f'["<none>@{DIGEST}", null, "a@{DIGEST}"]',
            {NAME_LABEL: "a:1", DIGEST_LABEL: DIGEST},
        ),
        (
            "docker.io/library/a:1",
            f'["h:5000/a@sha256:{"1" * 64}", "a@{DIGEST}"]',
            {NAME_LABEL: "docker.io/library/a:1", DIGEST_LABEL: DIGEST},
        ),
        ("a:1", "not json", {NAME_LABEL: "a:1"}),
        ("a:1", None, {NAME_LABEL: "a:1"}),
        ("Not A Name", None, {}),
        ("", None, {}),
    ],
)
def test_the_digest_is_the_names_or_the_engines(base, said, expected):
    assert labels(base, DOCKER, lambda command: said) == expected


@pytest.mark.parametrize(
    ("found", "version", "wrong"),
    [
        ("null", "cuda = None", {}),
        ('{"sagemaker-byoc.torch": "cpu"}', "cuda: Optional[str] = None", {}),
        (
            (
                '{"sagemaker-byoc.torch": "cuda12", "sagemaker-byoc.cuda": "12.8", '
                '"sagemaker-byoc.driver": "525.60"}'
            ),
            "cuda: Optional[str] = '13.0'",
            {
                "sagemaker-byoc.torch": "cuda13",
                "sagemaker-byoc.cuda": "13.0",
                "sagemaker-byoc.driver": "580.65",
            },
        ),
        (
            '{"sagemaker-byoc.torch": "cuda12", "sagemaker-byoc.cuda": "12.8"}',
            "cuda = None",
            {"sagemaker-byoc.torch": "cpu", "sagemaker-byoc.cuda": ""},
        ),
        ('{"sagemaker-byoc.torch": "other"}', None, None),
        ('{"sagemaker-byoc.torch": "other"}', "nothing", None),
    ],
)
def test_labels_that_differ_from_the_installed_torch(found, version, wrong):
    def ask(command):
        return version if command[1] == "run" else found

    assert image_labels.wrong_labels("x", DOCKER, ask) == wrong


FILES = {
    "etc/os-release": b'ID="debian"\nVERSION_ID="12"\n',
    "var/lib/dpkg/status": (
        b"Package: zlib1g\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:1.2.13\n"
        b"Description: x\n y\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n"
    ),
    "var/lib/dpkg/status.d/base": b"Package: base-files\nVersion: 12.4\n",
    "lib/apk/db/installed": b"P:musl\nV:1.2.5-r0\nA:x86_64\n\nX:broken\n",
    "v/torch-2.13.0+cpu.dist-info/METADATA": (
        b"Name: Torch\nVersion: 2.13.0+cpu\nLicense-Expression: BSD-3-Clause\n"
    ),
    "v/my_app-1.dist-info/METADATA": b"Name: my_app\nVersion: 1\n",
    "w/my_app-1.dist-info/METADATA": b"Name: my.app\nVersion: 1\nLicense-Expression: MIT\n",
    "v/old.egg-info/PKG-INFO": b"Name: old\nVersion: 0.1\n",
    "v/broken-1.dist-info/METADATA": b"\xff\xfe",
    "opt/program/METADATA": b"Name: no\nVersion: 1\n",
}


def test_the_packages_of_an_image():
    """Each by a purl that scanners know, once; the base as what it was made from."""
    contents = sbom.read(io.BytesIO(layer(FILES)))
    found = sbom.document("h:5000/mine:1", DIGEST, {NAME_LABEL: "python:3.11"}, contents)
    assert [component["purl"] for component in found["components"]] == [
        "pkg:apk/debian/musl@1.2.5-r0?arch=x86_64&distro=debian-12",
        "pkg:deb/debian/base-files@12.4?distro=debian-12",
        "pkg:deb/debian/zlib1g@1%3A1.2.13?arch=amd64&distro=debian-12",
        "pkg:pypi/my-app@1",
        "pkg:pypi/old@0.1",
        "pkg:pypi/torch@2.13.0%2Bcpu",
    ]
    assert found["components"][-1]["licenses"] == [{"expression": "BSD-3-Clause"}]
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    subject = found["metadata"]["component"]
    assert (subject["name"], subject["version"]) == ("h:5000/mine", DIGEST)
    assert subject["pedigree"] == {"ancestors": [{"type": "container", "name": "python:3.11"}]}
    assert not contents.has_rpm


def test_an_rpm_database_is_said():
    assert sbom.read(io.BytesIO(layer({"var/lib/rpm/rpmdb.sqlite": b"x"}))).has_rpm


def test_an_export_that_breaks_off():
    with pytest.raises(sbom.ImageError, match="is not an archive"):
        sbom.read(io.BytesIO(layer(FILES)[:700]))
