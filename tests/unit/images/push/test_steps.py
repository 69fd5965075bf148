"""Archives, layouts and other registries' images, pushed to a registry on loopback."""

from __future__ import annotations

import gzip
import hashlib
import json
import shlex
import tarfile
import threading
from itertools import pairwise
from pathlib import Path

import pytest
from tests.unit.images import made
from tests.unit.images.served import registry

from sagemaker_byoc.contract.errors import ByocError, RequestError
from sagemaker_byoc.host.registry_images import Reference
from sagemaker_byoc.images import model
from sagemaker_byoc.images import registry as registry_module
from sagemaker_byoc.images.model import HostileError, RegistryError
from sagemaker_byoc.images.push import copying, programs, steps
from sagemaker_byoc.images.push.copying import Push, run_steps
from sagemaker_byoc.images.push.programs import CopyError, How
from sagemaker_byoc.images.registry import Login

pytestmark = pytest.mark.slow
BASE = made.layer({"usr": None, "usr/lib": b"x" * 5000})
CODE = made.layer({"code.py": b"print(1)\n" * 100})


@pytest.fixture
def served(monkeypatch):
    monkeypatch.setattr(registry_module, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(programs, "FIRST_WAIT", 0.001)
    with registry() as served:
        yield served


class Silent:
    is_terminal = False

    def __init__(self):
        self.notes, self.layers = [], []

    def note(self, text):
        self.notes.append(text)

    def layer(self, number, name, how):
        self.layers.append((name, how))


@pytest.fixture
def send(served, tmp_path):
    """Push `name` into the served registry; `told` is what was reported of it."""
    if not programs.has_skopeo():
        pytest.skip("skopeo is not installed")
    count = iter(range(100))

    def run(name, *, repository="mine", tag="1", log_in=lambda _: None, **more):
        run.told = Silent()
        push = Push(
            source=str(name),
            destination=Reference(served.host, repository, tag),
            find_login=log_in,
            screen=run.told,
            **{"platform": "linux/amd64", **more},
        )
        push.folder = tmp_path / f"push-{next(count)}"
        push.folder.mkdir()
        with push.undo:
            run_steps([*steps.source_steps(push), *steps.transfer_steps(push)])
        return push

    return run


def fates(push):
    return [how for _, _, how in push.pushed_layers]


def document(*layers, **more):
    found = made.config(Entrypoint=["train"], **more)
    found["rootfs"]["diff_ids"] = [digest_of(data) for data in layers]
    return found


def digest_of(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.fixture
def saved(tmp_path):
    return made.saved(tmp_path / "image.tar", document(BASE, CODE), BASE, CODE)


@pytest.fixture
def layout(tmp_path):
    return made.layout(tmp_path / "oci", document(BASE, CODE), BASE, CODE, attested=True)


def test_a_saved_image_arrives_in_dockers_types(send, saved, served):
    pushed = send(saved)
    manifest = served.manifest("mine", "1")
    assert manifest["mediaType"] == model.DOCKER_MANIFEST
    assert served.manifests["mine", "1"][1] == model.DOCKER_MANIFEST
    assert manifest["config"]["mediaType"] == model.DOCKER_CONFIG
    assert {layer["mediaType"] for layer in manifest["layers"]} == {model.DOCKER_LAYER}
    blobs = [served.blobs["mine", layer["digest"]] for layer in manifest["layers"]]
    assert [gzip.decompress(blob) for blob in blobs] == [BASE, CODE]
    assert [layer["size"] for layer in manifest["layers"]] == [len(blob) for blob in blobs]
    assert json.loads(served.blobs["mine", manifest["config"]["digest"]]) == document(BASE, CODE)
    assert str(pushed.pushed) == f"{served.host}/mine@{pushed.pushed.digest}"
    assert pushed.config.platform == "linux/amd64"
    assert fates(pushed) == [How.SENT, How.SENT]


def test_a_second_push_sends_nothing(send, saved, served):
    first = send(saved)
    served.log.clear()
    second = send(saved)
    assert second.pushed == first.pushed
    assert second.is_there
    assert not served.sent("PUT")
    assert not served.sent("POST")


def test_under_another_tag_only_the_manifest_is_sent(send, saved, served):
    first = send(saved)
    served.log.clear()
    second = send(saved, tag="2")
    assert second.pushed == first.pushed
    assert served.sent("PUT") == ["PUT /v2/mine/manifests/2"]
    assert set(fates(second)) == {How.THERE}


def test_without_a_tag_the_content_names_it(send, saved):
    pushed = send(saved, tag="")
    with tarfile.open(saved) as tar:
        config = tar.extractfile("config.json").read()
    assert pushed.destination.tag == hashlib.sha256(config).hexdigest()[:12]


def test_another_repository_of_the_registry_lends_its_layers(send, saved, served):
    send(saved)
    served.log.clear()
    pushed = send(saved, repository="other")
    assert set(fates(pushed)) == {How.MOUNTED}
    assert all("/blobs/" not in line or "uploads" in line for line in served.sent("PUT"))
    assert len(served.sent("PUT")) == 2  # the configuration and the manifest


def test_an_attested_layout_is_converted_and_its_layers_stay(send, layout, served):
    pushed = send(layout)
    manifest = served.manifest("mine", "1")
    assert pushed.converted_from == model.OCI_MANIFEST
    assert manifest["config"]["mediaType"] == model.DOCKER_CONFIG
    for layer, plain in zip(manifest["layers"], (BASE, CODE), strict=True):
        assert layer["mediaType"] == model.DOCKER_LAYER
        assert served.blobs["mine", layer["digest"]] == gzip.compress(plain, mtime=0)


def test_a_layout_in_a_packed_tar(send, layout, served, tmp_path):
    with tarfile.open(tmp_path / "oci.tar.gz", "w:gz") as tar:
        tar.add(layout, arcname=".")
    assert send(tmp_path / "oci.tar.gz").pushed_layers
    assert served.manifest("mine", "1")["mediaType"] == model.DOCKER_MANIFEST


def test_what_newer_engines_save(send, served, tmp_path):
    """Packed blobs beside plain ones, a layer that comes twice as a link."""
    packed = gzip.compress(BASE, mtime=0)
    config = json.dumps(document(BASE, CODE, CODE)).encode()
    path = tmp_path / "new.tar"
    blob = f"blobs/sha256/{digest_of(packed).partition(':')[2]}"
    with tarfile.open(path, "w") as tar:
        made._add(tar, blob, packed)
        made._add(tar, "two/layer.tar", CODE)
        link = tarfile.TarInfo("three/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "../two/layer.tar"
        tar.addfile(link)
        made._add(tar, "config.json", config)
        layers = [blob, "two/layer.tar", "three/layer.tar"]
        images = [{"Config": "config.json", "RepoTags": None, "Layers": layers}]
        made._add(tar, "manifest.json", json.dumps(images).encode())
    send(path)
    first, second, third = served.manifest("mine", "1")["layers"]
    assert gzip.decompress(served.blobs["mine", first["digest"]]) == BASE
    assert second == third
    assert gzip.decompress(served.blobs["mine", second["digest"]]) == CODE


def test_from_a_registry_past_its_attestations(send, layout, served):
    _serve_layout(served, layout, "there")
    pushed = send(f"docker://{served.host}/there:1")
    assert pushed.converted_from == model.OCI_INDEX
    assert served.manifest("mine", "1")["mediaType"] == model.DOCKER_MANIFEST


def test_from_one_registry_to_another_with_a_break(send, layout, served):
    with registry() as origin:
        _serve_layout(origin, layout, "there")
        origin.faults.append(once("GET", f"/v2/there/blobs/{_packed(BASE)}", short))
        pushed = send(f"docker://{origin.host}/there:1")
    assert set(fates(pushed)) == {How.SENT}
    assert any("again in" in note for note in send.told.notes)
    assert served.blobs["mine", _packed(BASE)] == gzip.compress(BASE, mtime=0)


def test_another_platform_is_refused_before_anything_is_sent(send, tmp_path, served):
    path = made.saved(tmp_path / "a.tar", document(BASE, architecture="arm64"), BASE)
    with pytest.raises(ByocError, match=r"is for linux/arm64; .* want linux/amd64"):
        send(path)
    assert not served.sent("POST")
    assert send(path, platform="linux/arm64").config.platform == "linux/arm64"


def test_a_fixed_tag_is_refused_before_anything_is_sent(send, saved, served):
    before = served.put("mine", "1", b'{"schemaVersion": 2, "config": {}, "layers": []}', "x/y")
    with pytest.raises(RegistryError, match=f"is {before} already") as caught:
        send(saved, immutable=True)
    assert "--mutable" in caught.value.hint
    assert not served.sent("POST")
    assert send(saved).destination.tag == "1"
    assert any(before in note for note in send.told.notes)


def test_zstd_is_refused_with_what_to_do(send, tmp_path):
    path = made.saved(tmp_path / "z.tar", document(BASE), b"\x28\xb5\x2f\xfd" + b"x" * 600)
    with pytest.raises(ByocError, match="zstd") as caught:
        send(path)
    assert "--dest-decompress" in caught.value.hint


def test_a_layer_that_is_not_what_the_configuration_says(send, tmp_path, served):
    path = made.saved(tmp_path / "lie.tar", document(BASE), CODE)
    with pytest.raises(HostileError, match="Digest did not match"):
        send(path)
    assert ("mine", "1") not in served.manifests


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("{tmp}/none", RequestError, "is not an image name"),
        ("{tmp}/empty", RequestError, "no index.json"),
        ("{tmp}/noise.tar", HostileError, "not a tar archive"),
        ("{tmp}/short.tar", HostileError, "ends in the middle"),
        ("docker://{host}/no:1", RequestError, "there is no image"),
    ],
)
def test_what_is_no_image(send, served, tmp_path, name, error, words):  # noqa: PLR0913, PLR0917
    saved = made.saved(tmp_path / "image.tar", document(BASE), BASE)
    (tmp_path / "empty").mkdir()
    (tmp_path / "noise.tar").write_bytes(b"7" * 1024)
    (tmp_path / "short.tar").write_bytes(saved.read_bytes()[:3000])
    with pytest.raises(error, match=words):
        send(name.format(tmp=tmp_path, host=served.host))


# Failures on the way


def once(method, path, fault):
    """`fault` for the first request of the method whose path starts so."""
    left = [True]

    def answer(handler):
        if handler.command == method and handler.url.path.startswith(path) and left:
            left.clear()
            return fault(handler)
        return False

    return answer


def broken(handler):
    handler.hang_up(after=100)
    return True


def short(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "4000")
    handler.end_headers()
    handler.wfile.write(b"x" * 50)
    handler.close_connection = True
    return True


def busy(handler):
    handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    handler.refuse(503, "UNAVAILABLE")
    return True


@pytest.mark.parametrize(("method", "fault"), [("PUT", "broken"), ("POST", "busy")])
def test_a_break_is_tried_again(send, saved, served, method, fault):
    answer = {"broken": broken, "busy": busy}[fault]
    served.faults.append(once(method, "/v2/mine/blobs/", answer))
    assert send(saved).pushed_layers
    assert any("again in" in note for note in send.told.notes)


def test_what_arrived_before_a_push_failed_is_not_sent_again(send, saved, served):
    def never(handler):
        if handler.command == "PUT" and "/manifests/" in handler.url.path:
            handler.refuse(403, "DENIED")
            return True
        return False

    served.faults.append(never)
    with pytest.raises(RegistryError, match="did not get the image"):
        send(saved)
    served.faults.clear()
    assert fates(send(saved)) == [How.THERE, How.THERE]


def test_a_registry_that_falls_silent_is_given_up(send, saved, served, monkeypatch):
    """skopeo itself waits without end; it is killed."""
    monkeypatch.setattr(programs, "STILL_SECONDS", 0.3)
    monkeypatch.setattr(programs, "_LOOK", 0.05)
    release = threading.Event()

    def silent(handler):
        return handler.command == "PATCH" and release.wait(60)

    served.faults.append(silent)
    try:
        with pytest.raises(RegistryError, match="has received nothing"):
            send(saved)
    finally:
        release.set()


def test_a_refusal_is_not_tried_again_and_says_what_to_do(send, saved, served):
    def denied(handler):
        if handler.command == "POST":
            handler.refuse(403, "DENIED", "not authorized to perform: ecr:InitiateLayerUpload")
            return True
        return False

    served.faults.append(denied)
    with pytest.raises(RegistryError, match="not authorized") as caught:
        send(saved)
    assert "docker login" in caught.value.hint
    assert len(set(served.sent("POST"))) == 1


def test_a_tag_that_became_fixed_in_between(send, saved, served):
    def fixed(handler):
        if handler.command == "PUT" and "/manifests/" in handler.url.path:
            handler.rfile.read(int(handler.headers["Content-Length"]))
            handler.refuse(400, "TAG_INVALID", "the repository is immutable")
            return True
        return False

    served.faults.append(fixed)
    with pytest.raises(RegistryError, match="immutable") as caught:
        send(saved)
    assert "--tag" in caught.value.hint


def test_a_registry_that_rewrites_manifests_is_found_out(send, saved, served):
    def rewritten(handler):
        if handler.command == "GET" and served.manifests:
            data, _ = served.manifests["mine", "1"]
            handler.answer(200, data, model.OCI_MANIFEST)
            return True
        return False

    served.faults.append(rewritten)
    with pytest.raises(RegistryError, match="which SageMaker refuses"):
        send(saved)


def test_somebody_else_pushing_to_the_tag_is_found_out(send, saved, served):
    def other(handler):
        if handler.command == "GET" and ("mine", "1") in served.manifests:
            served.put("mine", "1", b"{}")
        return False

    served.faults.append(other)
    with pytest.raises(RegistryError, match="which was pushed"):
        send(saved)


def test_a_token_for_reading_is_exchanged_for_one_for_writing(send, saved, served):
    """As Docker Hub and Harbor ask for it: a scope for each kind of request."""

    def guarded(handler):
        path, wanted = handler.url.path, "pull" if handler.command in {"GET", "HEAD"} else "push"
        if path == "/token":
            assert handler.headers["Authorization"] == Login("me", "pass word").header
            token = json.dumps({"token": handler.query["scope"]}).encode()
            handler.answer(200, token)
            return True
        if wanted in handler.headers.get("Authorization", ""):
            return False
        handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        scope = "pull" if wanted == "pull" else "pull,push"
        challenge = f'Bearer realm="http://{served.host}/token",service="x",scope="{scope}"'
        handler.refuse(401, "UNAUTHORIZED", WWW_Authenticate=challenge)
        return True

    served.faults.append(guarded)
    assert send(saved, log_in=lambda _: Login("me", "pass word")).pushed_layers
    assert len(served.sent("GET")) - len(served.manifests) < 20


def test_a_wrong_login_is_not_asked_for_ever(send, saved, served):
    def locked(handler):
        handler.refuse(401, "UNAUTHORIZED", WWW_Authenticate='Basic realm="x"')
        return True

    served.faults.append(locked)
    with pytest.raises(RegistryError, match="refuses the login"):
        send(saved, log_in=lambda _: Login("me", "wrong"))
    assert len(served.log) == 1


def test_a_path_with_a_colon(send, saved, served):
    """For skopeo a colon ends the path of an archive."""
    odd = saved.rename(saved.with_name("image:1.tar"))
    assert send(odd).pushed_layers
    assert served.manifest("mine", "1")


def test_the_login_is_in_no_argument_and_in_a_private_file(send, saved, monkeypatch):
    seen = []

    def keep(words, line, **more):
        path = Path(next(word for before, word in pairwise(words) if before == "--authfile"))
        seen.extend([words, path.read_text(), path.stat().st_mode & 0o777])
        raise CopyError("skopeo", "stopped")

    monkeypatch.setattr(programs, "run", keep)
    with pytest.raises(RegistryError, match="stopped"):
        send(saved, log_in=lambda _: Login("me", "secret"))
    words, text, mode = seen
    assert Login("me", "secret").encoded in text
    assert mode == 0o600
    assert "secret" not in shlex.join(words)
    assert Login("me", "secret").encoded not in shlex.join(words)


def test_oci_types_of_dockers_own_push_are_found_out(send, layout, served, monkeypatch, tmp_path):
    """As an engine with containerd's store pushes: refused, with the way to skopeo."""
    monkeypatch.setattr(programs, "has_skopeo", lambda: False)
    _serve_layout(served, layout, "there")
    (tmp_path / "docker").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "docker").chmod(0o700)
    monkeypatch.setenv("DOCKER", str(tmp_path / "docker"))
    monkeypatch.setattr(copying.docker, "inspect", lambda *_: {"Id": "sha256:1"})

    def copy(words, line, **_):
        if words[1] == "push":
            data, kind = next(v for v in served.manifests.values() if v[1] == model.OCI_MANIFEST)
            digest = served.put("mine", "1", data, kind)
            line(f"1: digest: {digest} size: 1")

    monkeypatch.setattr(programs, "run", copy)
    with pytest.raises(RegistryError, match="which SageMaker refuses") as caught:
        send(f"docker://{served.host}/there:1")
    assert "Install skopeo" in caught.value.hint


def _packed(plain):
    return digest_of(gzip.compress(plain, mtime=0))


def _serve_layout(served, root, repository):
    for path in (root / "blobs" / "sha256").iterdir():
        data = path.read_bytes()
        served.blobs[repository, f"sha256:{path.name}"] = data
        if data[:1] == b"{" and b'"mediaType"' in data:
            served.put(repository, f"sha256:{path.name}", data, json.loads(data)["mediaType"])
    (top,) = json.loads((root / "index.json").read_text())["manifests"]
    data, kind = served.manifests[repository, top["digest"]]
    served.put(repository, "1", data, kind)
