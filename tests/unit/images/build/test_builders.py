"""Which builder is taken, from what real programs said of themselves."""

from __future__ import annotations

import pytest

from sagemaker_byoc.contract.errors import MachineError, RequestError
from sagemaker_byoc.images.build import builders
from sagemaker_byoc.images.build.builders import choose, require_understood

OLD = "Docker version 20.10.24+dfsg1, build 297e128"
NEW = "Docker version 28.2.2, build e6534b4"
PLUGIN = "github.com/docker/buildx v0.24.0 d0e5e86"
HELP = "      --platform stringArray\n      --provenance string\n      --sbom string\n"


def machine(client=OLD, engine="20.10.24+dfsg1", plugin=None, buildx_help=HELP):
    """What `docker WORDS` prints; None where it fails."""
    answers = {
        "--version": client,
        "version --format {{.Server.Version}}": engine,
        "buildx version": plugin,
        "buildx build --help": buildx_help if plugin else None,
    }
    return lambda command: answers.get(" ".join(command[1:]))


def test_an_old_client_builds_with_the_engines_buildkit():
    """Its own default would be the legacy builder."""
    found = choose(None, {"DOCKER": "/x/docker"}, machine())
    assert found.title == "BuildKit (of the docker engine 20.10.24+dfsg1)"
    assert found.command == ("/x/docker", "build")
    assert found.environment == {"DOCKER_BUILDKIT": "1"}


def test_buildx_writes_no_attestations_and_dockers_types():
    found = choose(None, {"DOCKER": "d"}, machine(NEW, "28.2.2", PLUGIN))
    assert found.title == "BuildKit (docker buildx 0.24.0)"
    flags = ("--provenance=false", "--sbom=false", "--output", "type=docker")
    assert found.command == ("d", "buildx", "build", *flags)


def test_flags_only_where_the_plugin_knows_them():
    found = choose(None, {"DOCKER": "d"}, machine(NEW, "28.2.2", PLUGIN, "  --platform\n"))
    assert "--provenance=false" not in found.command
    assert found.environment["BUILDX_NO_DEFAULT_ATTESTATIONS"] == "1"


def test_a_new_client_without_its_plugin_is_told_so():
    found = choose(None, {"DOCKER": "d"}, machine(NEW))
    assert found.name == "legacy"
    assert found.environment == {"DOCKER_BUILDKIT": "0"}
    assert "docker-buildx" in found.note


@pytest.mark.parametrize("said", [{"DOCKER_BUILDKIT": "0"}, {}])
def test_the_legacy_builder_by_choice(said):
    wanted = None if said else "legacy"
    found = choose(wanted, {"DOCKER": "d", **said}, machine(plugin=PLUGIN))
    assert (found.name, found.note) == ("legacy", "")
    assert found.command == ("d", "build", "--force-rm")  # a failed step leaves no container


@pytest.mark.parametrize(
    ("wanted", "client"), [("buildx", OLD), ("buildkit", NEW), ("buildx", NEW)]
)
def test_a_builder_that_is_not_there_is_no_other_one(wanted, client):
    with pytest.raises(MachineError, match=f"can't build with {wanted}"):
        choose(wanted, {"DOCKER": "d"}, machine(client))


@pytest.mark.parametrize(
    ("said", "name"),
    [("podman version 4.3.1", "podman"), ("buildah version 1.28.2 (image-spec 1.1)", "buildah")],
)
def test_podman_and_buildah_write_dockers_format(said, name):
    """By their own name, or as what `docker` turns out to be."""
    for wanted, environment in ((name, {}), (None, {"DOCKER": "/usr/bin/docker"})):
        found = choose(wanted, environment, machine(said))
        assert found.name == name
        assert found.command[1:4] == ("build", "--format", "docker")
        assert f"{name}'s own store" in found.note


def test_no_client_and_no_engine():
    """The cause is asked for, of the question that failed."""
    with pytest.raises(MachineError, match="there is no docker client '/absent/d'") as refusal:
        choose(None, {"DOCKER": "/absent/d"})
    assert "set DOCKER" in refusal.value.hint
    asked = []

    def explain(command):
        asked.append(command[1])
        return MachineError("no engine", hint="x")

    for ask in (lambda command: None, machine(engine=None)):
        with pytest.raises(MachineError, match="no engine"):
            choose(None, {"DOCKER": "d"}, ask, explain)
    assert asked == ["--version", "version"]


@pytest.mark.parametrize(
    "line",
    [
        "RUN --mount=type=cache,target=/x pip install y",
        "  run --network=none true",
        "COPY --from=a --link x y",
        "ADD --chmod=755 x y",
        "RUN <<EOF",
        "COPY <<-'EOF' /x",
    ],
)
def test_the_legacy_builder_is_not_given_what_it_does_not_know(line):
    """With the line, before anything is sent; BuildKit is given it."""
    legacy = choose("legacy", {"DOCKER": "d"}, machine())
    with pytest.raises(RequestError, match=r"Dockerfile:2 has"):
        require_understood(legacy, f"FROM x\n{line}\n", "Dockerfile")
    require_understood(choose("buildkit", {"DOCKER": "d"}, machine()), line, "Dockerfile")


def test_what_the_legacy_builder_knows_passes():
    legacy = choose("legacy", {"DOCKER": "d"}, machine())
    text = "ARG BASE\nFROM ${BASE} AS a\nCOPY --from=a --chown=1 /x /y\nRUN [ 1 -lt 2 ] # --mount\n"
    require_understood(legacy, text, "Dockerfile")


def test_ask_says_none_for_what_fails(tmp_path):
    assert builders.ask([str(tmp_path / "absent")]) is None
    assert builders.ask(["false"]) is None
    assert builders.ask(["printf", "yes"]) == "yes"
