"""Images for tests, made of bytes: layers, docker archives, OCI layouts."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import struct
import tarfile
from pathlib import Path

from sagemaker_byoc.images import model


def elf(*, machine: int = 62, loader: str = "", size: int | None = None, kind: int = 3) -> bytes:
    """A program as far as the kernel's loader reads it: header, PT_LOAD, PT_INTERP, its path.

    `size` is what its segment claims to hold.
    """
    name = loader.encode() + b"\0" if loader else b""
    count = 2 if loader else 1
    start = 64 + 56 * count
    whole = start + len(name)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = struct.pack("<HHIQQQIHHH", kind, machine, 1, 64, 64, 0, 0, 64, 56, count) + bytes(6)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, size or whole, size or whole, 4096)
    path = struct.pack("<IIQQQQQQ", 3, 4, start, 0, 0, len(name), len(name), 1) if loader else b""
    return ident + header + load + path + name


def layer(files: dict[str, bytes | None], *, mode: int = 0o644) -> bytes:
    """A tar; None makes a folder, b"-> x" a symbolic link to x."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, data in files.items():
            entry = tarfile.TarInfo(path)
            entry.mode = mode
            if data is None:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            elif data.startswith(b"-> "):
                entry.type, entry.linkname = tarfile.SYMTYPE, data[3:].decode()
            else:
                entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data or b""))
    return buffer.getvalue()


def config(**inner) -> dict:
    top = {"os": "linux", "architecture": inner.pop("architecture", "amd64")}
    history = [{"created_by": line} for line in inner.pop("history", [])]
    return {**top, "config": inner, "history": history, "rootfs": {"type": "layers"}}


def saved(path: Path, document: dict, *layers: bytes) -> Path:
    """What `docker save` of an engine with its own store writes."""
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    with tarfile.open(path, "w") as tar:
        for name, data in zip(names, layers, strict=True):
            _add(tar, name, data)
        _add(tar, "config.json", json.dumps(document).encode())
        manifest = [{"Config": "config.json", "RepoTags": ["x:1"], "Layers": names}]
        _add(tar, "manifest.json", json.dumps(manifest).encode())
    return path


def layout(root: Path, document: dict, *layers: bytes, attested: bool = False) -> Path:
    """An OCI layout with one image, behind an index with an attestation if wanted."""

    def blob(data: bytes, kind: str, **more) -> dict:
        digest = hashlib.sha256(data).hexdigest()
        target = root / "blobs" / "sha256" / digest
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data), **more}

    def manifest(configuration: dict, *parts: dict, **more) -> dict:
        found = {
            "schemaVersion": 2,
            "mediaType": model.OCI_MANIFEST,
            "config": configuration,
            "layers": list(parts),
        }
        return blob(json.dumps(found).encode(), model.OCI_MANIFEST, **more)

    packed = [
        blob(gzip.compress(data, mtime=0), "application/vnd.oci.image.layer.v1.tar+gzip")
        for data in layers
    ]
    settings = blob(json.dumps(document).encode(), "application/vnd.oci.image.config.v1+json")
    platform = {"os": "linux", "architecture": document["architecture"]}
    top = manifest(settings, *packed, platform=platform)
    if attested:
        note = {"vnd.docker.reference.type": "attestation-manifest"}
        statement = blob(b"{}", "application/vnd.in-toto+json")
        nowhere = {"os": "unknown", "architecture": "unknown"}
        proof = manifest(settings, statement, annotations=note, platform=nowhere)
        index = {"schemaVersion": 2, "mediaType": model.OCI_INDEX, "manifests": [top, proof]}
        top = blob(json.dumps(index).encode(), model.OCI_INDEX)
    (root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}))
    (root / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return root


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))
