"""The tag that an image has until its id is known, so that its own tag can be made from it.

It names the process that builds, so that the next build removes what a kill -9 left.
"""

from __future__ import annotations

import uuid

from sagemaker_byoc.host import owners
from sagemaker_byoc.images.build.builders import BUILDAH, Ask, Builder

_PREFIX = "byoc-building-"


def of_this_process() -> str:
    return _PREFIX + (owners.as_name(owners.me()) or uuid.uuid4().hex)


def sweep(repository: str, builder: Builder, ask: Ask) -> None:
    """Remove such tags of a repository whose process has ended."""
    if builder.name == BUILDAH:
        return
    tags = ask([builder.command[0], "image", "ls", "--format", "{{.Tag}}", repository]) or ""
    for tag in tags.split():
        identity = owners.of_name(tag.removeprefix(_PREFIX))
        if tag.startswith(_PREFIX) and owners.is_dead(identity):
            ask(builder.untag(f"{repository}:{tag}"))
