"""The registry's answers, as the distribution specification shapes them."""

from __future__ import annotations

import json
import re

from sagemaker_byoc.region.services.ecr.blobs import UploadedBlob
from sagemaker_byoc.region.services.ecr.registry_errors import RegistryError
from sagemaker_byoc.region.wire.http import Request, Response

_CONTENT_RANGE = re.compile(r"(?:bytes[ =])?(\d{1,19})-(\d{1,19})(?:/.*)?")


def check_start(request: Request, name: str, upload: UploadedBlob) -> None:
    header = request.headers.get("content-range")
    if header is None:
        return
    found = _CONTENT_RANGE.fullmatch(header)
    if found is None or int(found[1]) != upload.size:
        error = RegistryError(
            "BLOB_UPLOAD_INVALID",
            f"Content-Range is {header!r}; the next byte is {upload.size}",
            status=416,
        )
        error.headers = progress(name, upload, 416).headers
        raise error


def progress(name: str, upload: UploadedBlob, status: int) -> Response:
    return Response(
        status=status,
        headers={
            "Location": f"/v2/{name}/blobs/uploads/{upload.path.name}",
            "Range": f"0-{max(upload.size - 1, 0)}",
            "Docker-Upload-UUID": upload.path.name,
            "Content-Length": "0",
        },
    )


def created(name: str, kind: str, digest: str) -> Response:
    return Response(
        status=201,
        headers={
            "Location": f"/v2/{name}/{kind}/{digest}",
            "Docker-Content-Digest": digest,
            "Content-Length": "0",
        },
    )


def json_reply(document: object, status: int = 200) -> Response:
    return Response(
        status=status,
        headers={"Content-Type": "application/json"},
        body=json.dumps(document).encode(),
    )


def refusal(error: RegistryError) -> Response:
    body = {"errors": [{"code": error.code, "message": error.message}]}
    response = json_reply(body, error.status)
    response.headers.update(error.headers)
    response.headers["Content-Type"] = "application/json"
    response.headers.pop("Content-Length", None)
    return response
