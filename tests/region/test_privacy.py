"""A region is its owner's: what other users of the machine, containers and web pages may not do."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from sagemaker_byoc.contract.errors import MachineError
from sagemaker_byoc.region.clients import make_client
from sagemaker_byoc.region.core.account import CREDENTIALS_FILE, Credentials, Keys, read_keys
from sagemaker_byoc.region.region import Region
from sagemaker_byoc.region.wire.signatures import sign

pytestmark = pytest.mark.slow

SECONDS = 20
BUCKET = "sagemaker-us-east-1-000000000000"
CALL = {"sagemaker": "list_models", "sts": "get_caller_identity", "s3": "list_buckets",
        "logs": "describe_log_groups", "ecr": "describe_repositories", "iam": "list_roles",
        "sagemaker-runtime": "invoke_endpoint"}  # fmt: skip


def ask(region, method="GET", path="/", body=None, **headers):
    """Status and body, without a client's library."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPConnection(region.url.removeprefix("http://"), timeout=SECONDS)
    try:
        connection.request(method, path, body, names)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


@pytest.mark.parametrize("service", CALL)
@pytest.mark.parametrize("wrong", ["key", "secret", "token"])
def test_a_wrong_key_is_refused_with_the_way_to_the_right_one(region, service, wrong):
    right = region.keys
    keys = {
        "key": Keys("AKIAFOREIGN", right.secret_key),
        "secret": Keys(right.access_key, "foreign"),
        "token": Keys(right.access_key, right.secret_key, "of another account"),
    }[wrong]
    client = make_client(service, region.url, keys)
    more = {"EndpointName": "e", "Body": b""} if service == "sagemaker-runtime" else {}
    with pytest.raises(ClientError) as refused:
        getattr(client, CALL[service])(**more)
    error = refused.value.response["Error"]
    codes = {"UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId"}
    mismatches = {"InvalidSignatureException", "SignatureDoesNotMatch"}
    assert error["Code"] in (mismatches if wrong == "secret" else codes)
    assert 'eval "$(byoc local env)"' in error["Message"]


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/", {}),
        ("GET", f"/{BUCKET}/key", {}),
        ("PUT", f"/{BUCKET}/key", {}),
        ("DELETE", f"/{BUCKET}", {}),
        ("POST", f"/{BUCKET}?delete", {}),
        ("POST", "/", {"x_amz_target": "SageMaker.CreateTrainingJob"}),
        ("POST", "/", {"content_type": "application/x-www-form-urlencoded"}),
        ("POST", "/endpoints/e/invocations", {}),
        ("GET", "/_byoc/status", {"x_byoc": "1"}),
        ("POST", "/_byoc/down", {"x_byoc": "1"}),
        ("GET", "/v2/", {}),
        ("PUT", "/v2/name/manifests/latest", {"authorization": "Basic QVdTOng="}),
    ],
)
def test_nothing_is_answered_without_a_signature(region, method, path, headers):
    status, body, _ = ask(region, method, path, **headers)
    assert status in {400, 401, 403}
    assert BUCKET.encode() not in body.replace(f"<Resource>/{BUCKET}".encode(), b"")
    region.client("s3").head_bucket(Bucket=BUCKET)


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "evil.example:8321"},
        {"host": "127.0.0.1.evil.example"},
        {"host": "localhost.evil.example"},
        {"host": "0x7f000001.evil"},
        {"host": "10.1.2.3"},
        {"host": "s3.us-east-1.amazonaws.com"},
        {"host": "[::2]"},
        {"host": "]["},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec_fetch_site": "cross-site"},
    ],
)
@pytest.mark.parametrize(
    "path", [f"/{BUCKET}", "/_byoc/status", "/v2/", "/endpoints/e/invocations"]
)
def test_foreign_names_and_pages_are_refused(path, headers, opened):
    """Also by a region that checks no key."""
    method = "POST" if path.endswith("invocations") else "GET"
    status, body, _ = ask(opened, method, path, **{"x_byoc": "1", **headers})
    assert status == 403
    assert b"The local region" in body


@pytest.fixture(scope="module")
def opened():
    with Region(is_open=True) as region:
        yield region


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "s3.localhost", "127.0.0.9", "[::1]:80"]
)
def test_own_names_are_known(opened, host):
    status, body, headers = ask(opened, path="/_byoc/status", host=host, x_byoc="1")
    assert (status, json.loads(body)["open"]) == (200, True)
    assert headers["Content-Security-Policy"] == "sandbox"
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_an_open_region_takes_any_key_and_none(opened):
    make_client("sagemaker", opened.url, Keys("any", "any")).list_models()
    make_client("s3", opened.url, Keys("any", "any")).put_object(Bucket=BUCKET, Key="k", Body=b"x")
    assert ask(opened, path=f"/{BUCKET}/k")[:2] == (200, b"x")


def test_json_operations_are_posted(opened):
    """A GET is what a page, an image or a link can send."""
    status, body, _ = ask(opened, path="/", x_amz_target="SageMaker.ListModels")
    assert (status, json.loads(body)["__type"]) == (405, "MethodNotAllowed")


def test_a_body_nested_too_deep_is_the_clients_mistake(opened):
    for target in ("SageMaker.ListModels", "Logs_20140328.PutLogEvents"):
        status, body, _ = ask(opened, "POST", body=b"[" * 100_000, x_amz_target=target)
        assert (status, json.loads(body)["__type"]) == (400, "SerializationException")
    depth = 100_000
    xml = b"<a>" * depth + b"</a>" * depth
    assert ask(opened, "POST", f"/{BUCKET}?delete", xml)[0] == 400
    ecr = opened.client("ecr")
    ecr.create_repository(repositoryName="deep")
    with pytest.raises(ClientError) as refused:
        ecr.put_image(repositoryName="deep", imageManifest='{"a":' * depth, imageTag="1")
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_keys_of_a_container_are_not_the_owners(region):
    credentials = Credentials(region.keys)
    keys = credentials.issue("arn:aws:sts::000000000000:assumed-role/r/s")
    status, body, _ = ask(region, path="/_byoc/status", x_byoc="1",
                          **_under(sign("GET", f"{region.url}/_byoc/status", keys)))  # fmt: skip
    assert status == 403, body  # of another life of the region
    assumed = region.client("sts").assume_role(
        RoleArn="arn:aws:iam::000000000000:role/r", RoleSessionName="me"
    )["Credentials"]
    keys = Keys(assumed["AccessKeyId"], assumed["SecretAccessKey"], assumed["SessionToken"])
    answer = make_client("sts", region.url, keys).get_caller_identity()
    assert answer["Arn"] == "arn:aws:sts::000000000000:assumed-role/r/me"
    signed = _under(sign("POST", f"{region.url}/_byoc/down", keys))
    status, body, _ = ask(region, "POST", "/_byoc/down", x_byoc="1", **signed)
    assert (status, b"may not control" in body) == (403, True)


def _under(headers):
    return {name.replace("-", "_"): value for name, value in headers.items()}


def test_the_state_is_for_its_owner(tmp_path):
    state = tmp_path / "state"
    state.mkdir(mode=0o755)
    with Region(state) as region:
        keys = region.keys
        assert stat.S_IMODE(state.stat().st_mode) == 0o700
        assert stat.S_IMODE((state / CREDENTIALS_FILE).stat().st_mode) == 0o600
        assert keys == read_keys(state)
        assert region.environ["AWS_SECRET_ACCESS_KEY"] == keys.secret_key
    with Region(state) as region:
        assert region.keys == keys
    with Region(tmp_path / "other") as region:
        assert region.keys.secret_key != keys.secret_key
    (state / CREDENTIALS_FILE).write_text("{}")
    with pytest.raises(MachineError, match="does not hold"):
        Region(state).start()
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    with pytest.raises(MachineError, match="shared with other users"):
        Region(shared).start()
    assert stat.S_IMODE(shared.stat().st_mode) == 0o1777


OTHER_USER = """
import encodings.idna, glob, json, os, sys, urllib.request
os.setgroups([]); os.setgid(65534); os.setuid(65534)
url, state = sys.argv[1:]
found = []
for root, folders, files in os.walk(state):
    found += folders + files
for method, path, headers in (
    ("GET", "/", {}), ("PUT", "/sagemaker-us-east-1-000000000000/p", {}),
    ("POST", "/", {"X-Amz-Target": "SageMaker.CreateTrainingJob"}),
):
    data = None if method == "GET" else b"{}"
    request = urllib.request.Request(url + path, data, headers, method=method)
    try:
        urllib.request.urlopen(request, timeout=10)
        found.append(path)
    except urllib.error.HTTPError as error:
        error.close()
for place in glob.glob("/proc/[0-9]*/cmdline"):
    try:
        found += [place] if os.environ["SECRET"].encode() in open(place, "rb").read() else []
    except OSError:
        pass
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_reads_and_runs_nothing():
    state = Path(tempfile.mkdtemp(prefix="byoc-test-"))
    state.chmod(0o755)
    try:
        with Region(state) as region:
            environ = {"SECRET": region.keys.secret_key, "PATH": os.environ["PATH"]}
            done = subprocess.run(
                [sys.executable, "-c", OTHER_USER, region.url, str(region.state)],
                check=False,
                capture_output=True,
                text=True,
                timeout=SECONDS,
                env=environ,
            )
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout) == []
            assert region.client("sagemaker").list_training_jobs()["TrainingJobSummaries"] == []
    finally:
        shutil.rmtree(state)


CHROMIUM = shutil.which("chromium")
PAGE = """<!doctype html><title>waiting</title><script>
const url = "REGION", name = "http://evil.example:PORT", bucket = "/BUCKET";
const paths = [bucket, bucket + "/page.html", "/_byoc/status", "/v2/"];
const tried = [];
async function attempt(what, work) {
  try { tried.push(what + ": " + await work()); } catch (error) { tried.push(what + ": blocked"); }
}
function send(method, path, more) { return fetch(path, {method, ...more}); }
(async () => {
  for (const place of [url, name]) for (const path of paths) {
    await attempt("read " + place + path, async () => (await fetch(place + path)).text());
    await attempt("blind " + place + path,
      async () => (await send("GET", place + path, {mode: "no-cors"})).text());
  }
  const body = "<Delete><Object><Key>page.html</Key></Object></Delete>";
  await attempt("delete",
    async () => (await send("POST", url + bucket + "?delete", {mode: "no-cors", body})).type);
  await attempt("put", async () => (await send("PUT", url + bucket + "/new", {body})).status);
  await send("POST", "/done", {body: JSON.stringify(tried)});
})();
</script>"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("is_open", [False, True])
def test_a_page_of_another_origin_in_a_browser(tmp_path, is_open):
    """Served under a name that resolves to this machine, as after DNS rebinding, too."""
    told, done = [], threading.Event()
    with Region(is_open=is_open) as region:
        s3 = region.client("s3")
        s3.put_object(Bucket=BUCKET, Key="page.html", Body=b"secret", ContentType="text/html")
        port = region.url.rpartition(":")[2]
        text = PAGE.replace("REGION", region.url).replace("PORT", port).replace("BUCKET", BUCKET)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(text.encode())

            def do_POST(self):
                told.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
                self.send_response(204)
                self.end_headers()
                done.set()

            def log_message(self, *_):
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        page = f"http://page.example:{server.server_port}/"
        rules = "MAP page.example 127.0.0.1, MAP evil.example 127.0.0.1"
        command = [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", f"--user-data-dir={tmp_path}", f"--host-resolver-rules={rules}", page,
        ]  # fmt: skip
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert done.wait(3 * SECONDS), "the page did not come to its end"
        finally:
            browser.kill()
            browser.wait(SECONDS)
            server.shutdown()
            server.server_close()
        tried = json.loads(told[0])
        assert len(tried) == 18
        assert not [line for line in tried if "secret" in line or "<ListBucket" in line], tried
        assert [each["Key"] for each in s3.list_objects_v2(Bucket=BUCKET)["Contents"]] == [
            "page.html"
        ]


def test_a_client_that_sends_no_whole_request_holds_nobody_up(region):
    """It is admitted before its body is read, so a stranger can't make the region keep one."""
    host, _, port = region.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), SECONDS) as stranger:
        head = "POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: SageMaker.ListModels\r\n"
        stranger.sendall(f"{head}Content-Length: 1000000\r\n\r\n".encode())
        assert b"MissingAuthenticationToken" in stranger.recv(4096)
