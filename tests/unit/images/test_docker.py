"""The words that the docker client is given."""

from __future__ import annotations

import pytest

from sagemaker_byoc.images import docker

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
