"""Archives, layouts and other registries' images, pushed to a registry on loopback."""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile

import pytest
from tests.unit.images import made
from tests.unit.images.served import registry

from sagemaker_byoc.contract.errors import ByocError, RequestError
from sagemaker_byoc.images import model
from sagemaker_byoc.images.credentials import Login
from sagemaker_byoc.images.errors import HostileError, RegistryError
from sagemaker_byoc.images.push import patience as patience_
from sagemaker_byoc.images.push import sources
from sagemaker_byoc.images.push.known import KnownLayer, KnownLayers
from sagemaker_byoc.images.push.patience import Patience
from sagemaker_byoc.images.push.push import Destination, push
from sagemaker_byoc.images.push.upload import How

BASE = made.layer({"usr": None, "usr/lib": b"x" * 5000})
CODE = made.layer({"code.py": b"print(1)\n" * 100})


@pytest.fixture
def served():
    with registry() as served:
        yield served


class Silent:
    def __init__(self):
        self.notes, self.layers = [], []
        self.bytes = 0
        self.sizes = []

    def note(self, text):
        self.notes.append(text)

    def begin(self, layers, unpacked, packed):
        self.expected = (layers, unpacked, packed)

    def packed(self, size):
        pass

    def sending(self, size, unpacked):
        self.sizes.append((size, unpacked))

    def spared(self, size, unpacked):
        self.sizes.append((0, size + unpacked))

    def sent(self, size):
        self.bytes += size

    def done(self, layer):
        self.layers.append(layer)


@pytest.fixture
def send(served, tmp_path):
    """Push `name` into the served registry; `told` is what was reported of it."""

    def run(name, *, log_in=lambda _: None, platform="linux/amd64", **destination):
        run.told = Silent()
        patience = Patience(run.told.note, first_wait=0.001)
        place = Destination(
            registry=served.host,
            platform=platform,
            **{"repository": "mine", "tag": "1", **destination},
        )
        known = KnownLayers(tmp_path / "cache")
        with sources.opened(str(name), platform, log_in, patience, run.told.note) as content:
            return push(content, place, run.told, patience, known)

    return run


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
    assert str(pushed.reference) == f"{served.host}/mine@{pushed.verified.digest}"
    assert pushed.verified.platform == "linux/amd64"
    assert [layer.how for layer in pushed.layers] == [How.SENT, How.SENT]


def test_a_second_push_sends_nothing(send, saved, served):
    first = send(saved)
    served.log.clear()
    second = send(saved)
    assert second.reference == first.reference
    assert second.already
    assert not served.sent("PUT")
    assert not served.sent("POST")


def test_under_another_tag_only_the_manifest_is_sent(send, saved, served):
    first = send(saved)
    served.log.clear()
    second = send(saved, tag="2")
    assert second.reference == first.reference
    assert served.sent("PUT") == ["PUT /v2/mine/manifests/2"]
    assert {layer.how for layer in second.layers} == {How.THERE}


def test_without_a_tag_the_content_names_it(send, saved):
    pushed = send(saved, tag="")
    with tarfile.open(saved) as tar:
        config = tar.extractfile("config.json").read()
    assert pushed.tag == hashlib.sha256(config).hexdigest()[:12]


def test_another_repository_of_the_registry_lends_its_layers(send, saved, served):
    send(saved)
    served.log.clear()
    pushed = send(saved, repository="other")
    assert {layer.how for layer in pushed.layers} == {How.MOUNTED}
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
    assert send(tmp_path / "oci.tar.gz").layers
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
    assert first["digest"] == digest_of(packed)
    assert second == third
    assert gzip.decompress(served.blobs["mine", second["digest"]]) == CODE


def test_a_blob_that_lies_elsewhere_counts_as_there(send, saved, served):
    """ECR and others answer HEAD with a redirect to an address that is signed for GET."""
    first = send(saved)
    served.manifests.clear()

    def elsewhere(handler):
        if handler.command == "HEAD":
            handler.answer(307, Location="http://127.0.0.1:9/signed")
            return True
        return False

    served.faults.append(elsewhere)
    second = send(saved)
    assert second.reference == first.reference
    assert {layer.how for layer in second.layers} == {How.THERE}


def test_from_a_registry_past_its_attestations(send, layout, served):
    _serve_layout(served, layout, "there")
    pushed = send(f"docker://{served.host}/there:1")
    assert pushed.converted_from == model.OCI_INDEX
    assert {layer.how for layer in pushed.layers} == {How.MOUNTED}


def test_from_one_registry_to_another_with_a_break(send, layout, served):
    with registry() as origin:
        _serve_layout(origin, layout, "there")
        origin.faults.append(once("GET", f"/v2/there/blobs/{_packed(BASE)}", short))
        pushed = send(f"docker://{origin.host}/there:1")
    assert {layer.how for layer in pushed.layers} == {How.SENT}
    assert any("broke off" in note for note in send.told.notes)
    assert served.blobs["mine", _packed(BASE)] == gzip.compress(BASE, mtime=0)


def test_another_platform_is_refused_before_anything_is_sent(send, tmp_path, served):
    path = made.saved(tmp_path / "a.tar", document(BASE, architecture="arm64"), BASE)
    with pytest.raises(ByocError, match=r"is for linux/arm64; .* want linux/amd64"):
        send(path)
    assert not served.sent("POST")
    assert send(path, platform="linux/arm64").verified.platform == "linux/arm64"


def test_a_fixed_tag_is_refused_before_anything_is_sent(send, saved, served):
    before = served.put("mine", "1", b'{"schemaVersion": 2, "config": {}, "layers": []}', "x/y")
    with pytest.raises(RegistryError, match=f"is {before} already") as caught:
        send(saved, immutable=True)
    assert "--mutable" in caught.value.hint
    assert not served.sent("POST")
    assert send(saved).tag == "1"
    assert any(before in note for note in send.told.notes)


def test_zstd_is_refused_with_what_to_do(send, tmp_path):
    path = made.saved(tmp_path / "z.tar", document(BASE), b"\x28\xb5\x2f\xfd" + b"x" * 600)
    with pytest.raises(ByocError, match="zstd") as caught:
        send(path)
    assert "--dest-decompress" in caught.value.hint


def test_a_layer_that_is_not_what_the_configuration_says(send, tmp_path, served):
    path = made.saved(tmp_path / "lie.tar", document(BASE), CODE)
    with pytest.raises(HostileError, match="something else"):
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


@pytest.mark.parametrize("fault", [broken, busy])
@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT"])
def test_a_break_is_mended(send, saved, served, method, fault):
    served.faults.append(once(method, "/v2/mine/blobs/", fault))
    assert send(saved).verified.layers
    assert any("again in" in note for note in send.told.notes)


def test_what_arrived_before_a_push_failed_is_not_sent_again(send, saved, served):
    big = digest_of(served_bytes(send, saved, served)[0])
    served.blobs.clear()
    served.manifests.clear()

    def never(handler):
        if handler.command == "PUT" and handler.query.get("digest") == big:
            return broken(handler)
        return False

    served.faults.append(never)
    with pytest.raises(RegistryError, match="gives no answer"):
        send(saved)
    assert len(send.told.notes) == patience_.ATTEMPTS - 1
    served.faults.clear()
    served.log.clear()
    pushed = send(saved)
    assert sorted(layer.how for layer in pushed.layers) == [How.SENT, How.THERE]


def served_bytes(send, saved, served):
    send(saved)
    layers = served.manifest("mine", "1")["layers"]
    return [served.blobs["mine", layer["digest"]] for layer in layers]


def test_a_refusal_is_not_tried_again_and_says_what_to_do(send, saved, served):
    def denied(handler):
        if handler.command == "POST":
            handler.refuse(403, "DENIED", "not authorized to perform: ecr:InitiateLayerUpload")
            return True
        return False

    served.faults.append(denied)
    with pytest.raises(RegistryError, match="403 DENIED: not authorized") as caught:
        send(saved)
    assert "docker login" in caught.value.hint
    assert not send.told.notes


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
    assert send(saved, login=Login("me", "pass word")).verified.layers
    assert len(served.sent("GET")) - len(served.manifests) < 20


def test_a_wrong_login_is_not_asked_for_ever(send, saved, served):
    def locked(handler):
        handler.refuse(401, "UNAUTHORIZED", WWW_Authenticate='Basic realm="x"')
        return True

    served.faults.append(locked)
    with pytest.raises(RegistryError, match="refuses the login"):
        send(saved, login=Login("me", "wrong"))
    assert len(served.log) == 1


def test_what_the_cache_says_wrongly_does_no_harm(send, saved, served, tmp_path):
    known = KnownLayers(tmp_path / "cache")
    known.keep(digest_of(BASE), KnownLayer(digest_of(b"other"), 7))
    served.blobs["mine", digest_of(b"other")] = b"other"  # of another size
    (tmp_path / "cache" / f"{digest_of(CODE).partition(':')[2]}.json").write_text("{")
    pushed = send(saved)
    assert {layer.how for layer in pushed.layers} == {How.SENT}
    assert len(served_bytes(send, saved, served)) == 2


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
