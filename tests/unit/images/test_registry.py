"""The way to a registry: proxies, TLS, redirects, and what the login is shown to."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from http.server import BaseHTTPRequestHandler
from urllib.request import Request

import pytest
from tests.unit.images.served import registry, serving

from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.host.registry_images import Reference, parse
from sagemaker_byoc.images import registry as registry_module
from sagemaker_byoc.images.model import RegistryError, TrustError
from sagemaker_byoc.images.registry import Login, Registry, _get, _Redirects, proxies_for


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("http", "https", "all", "no"):
        for case in (f"{name}_proxy", f"{name.upper()}_PROXY"):
            monkeypatch.delenv(case, raising=False)


def test_this_machine_is_asked_without_a_proxy(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://me:p%40ss@proxy.corp:3128")
    assert proxies_for("registry.example")["https"] == "http://me:p%40ss@proxy.corp:3128"
    assert proxies_for("127.0.0.1") == proxies_for("localhost") == {}


def test_a_proxy_is_shown_its_password(monkeypatch):
    with registry() as served:
        served.put("mine", "1", b'{"a": 1}')
        monkeypatch.setenv("http_proxy", f"http://me:p%40ss@{served.host}")
        assert Registry(parse("registry.example:5000/mine:1"), plain=True).manifest()
        assert served.headers[0]["Proxy-Authorization"] == Login("me", "p@ss").header


def test_no_proxy_is_followed(monkeypatch):
    monkeypatch.setattr(registry_module, "ATTEMPTS", 1)
    monkeypatch.setenv("NO_PROXY", "unknown.invalid")
    with registry() as served:
        monkeypatch.setenv("http_proxy", f"http://{served.host}")
        with pytest.raises(RegistryError, match="gives no answer"):
            Registry(parse("unknown.invalid/mine:1"), plain=True).manifest()
        assert not served.log


def test_a_proxy_that_can_not_be_used_says_so(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "socks5://proxy:1080")
    with pytest.raises(RequestError, match="kind socks5") as caught:
        proxies_for("registry.example")
    assert "NO_PROXY" in caught.value.hint


def test_a_plain_registry_through_a_proxy(monkeypatch):
    """The proxy is asked for the whole address; a registry in its place answers."""
    with registry() as served:
        served.put("mine", "1", b'{"a": 1}')
        monkeypatch.setenv("http_proxy", f"http://{served.host}")

        def whole(handler):
            assert handler.path.startswith("http://registry.example:5000/v2/")
            assert handler.headers["Host"] == "registry.example:5000"
            return False

        served.faults.append(whole)
        far = Registry(parse("registry.example:5000/mine:1"), plain=True)
        assert far.manifest().data == b'{"a": 1}'


def test_a_certificate_that_nobody_signed(tmp_path, monkeypatch):
    """Refused, not tried again, and good once its authority is named."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = self_signed(tmp_path)
    context.load_cert_chain(certificate)
    with serving(Fine, context) as address:
        monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)
        url = f"https://localhost:{address.rpartition(':')[2]}/"
        with pytest.raises(TrustError, match="not trusted") as caught:
            _get(url, {})
        assert "SSL_CERT_FILE" in caught.value.hint
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
        with _get(url, {}) as answer:
            assert answer.status == 204


def test_the_login_goes_to_the_registry_alone(monkeypatch):
    """A blob that lies elsewhere is fetched without it."""
    with registry() as place, registry() as served:
        place.blobs["far", "sha256:x"] = b"content"
        served.faults.append(
            lambda handler: bool(
                handler.answer(307, Location=f"http://{place.host}/v2/far/blobs/sha256:x") or True
            )
        )
        found = Registry(Reference(served.host, "mine"), Login("me", "secret"))
        with found.blob("sha256:x") as stream:
            assert stream.read() == b"content"
        assert served.headers[0]["Authorization"] == Login("me", "secret").header
        assert "Authorization" not in place.headers[0]


@pytest.mark.parametrize(
    ("url", "is_own"),
    [
        ("https://registry.example/v2/x", True),
        ("https://registry.example:8443/v2/x", False),
        ("https://registry.example.evil/v2/x", False),
    ],
)
def test_what_counts_as_the_registry(url, is_own):
    request = Request("https://registry.example/v2/", headers={"Authorization": "secret"})
    found = _Redirects().redirect_request(request, None, 307, "", {}, url)
    assert found.has_header("Authorization") is is_own


def test_nothing_is_sent_from_tls_to_none():
    request = Request("https://registry.example/v2/", headers={"Authorization": "secret"})
    with pytest.raises(TrustError, match="without TLS"):
        _Redirects().redirect_request(request, None, 307, "", {}, "http://registry.example/x")
    found = Registry(parse("registry.example/mine"), Login("me", "secret"))
    with pytest.raises(TrustError, match="without TLS"):
        found._log_in('Bearer realm="http://registry.example/token"')


@pytest.mark.parametrize(("status", "asked"), [(503, 4), (429, 4), (403, 1), (404, 1)])
def test_only_what_may_pass_is_asked_again(monkeypatch, status, asked):
    monkeypatch.setattr(registry_module, "FIRST_WAIT", 0.001)
    with registry() as served:
        served.faults.append(lambda handler: bool(handler.answer(status) or True))
        found = Registry(Reference(served.host, "mine", "1"))
        if status == 404:
            assert found.manifest() is None
        else:
            with pytest.raises(RegistryError, match=f"with {status}"):
                found.manifest()
        assert len(served.log) == asked


def test_a_silent_registry_is_not_waited_for_without_end(monkeypatch):
    monkeypatch.setattr(registry_module, "SECONDS", 0.05)
    monkeypatch.setattr(registry_module, "FIRST_WAIT", 0.001)
    with serving(Silent) as address, pytest.raises(RegistryError, match="gives no answer"):
        Registry(parse(f"{address}/mine")).manifest()


def self_signed(folder):
    """Key and certificate of localhost in one file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    path = folder / "certificate.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-keyout", path, "-out", folder / "only", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    path.write_bytes(path.read_bytes() + (folder / "only").read_bytes())
    return path


class Fine(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


class Silent(Fine):
    def do_GET(self):
        self.rfile.read(1)
