"""What http targets get, and which answers are tried again."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Iterator

import pytest
from tests.unit.region.services.events.conftest import SECONDS

from sagemaker_byoc.region.core.account import CALLER, Principal
from sagemaker_byoc.region.services.events import api_destinations, http_targets
from sagemaker_byoc.region.services.events.deliveries import DeliveryError
from sagemaker_byoc.region.services.events.http_targets import url_call
from sagemaker_byoc.region.wire.operations import AwsError

ROLE = "arn:aws:iam::000000000000:role/r"


class Target:
    """A server that remembers its requests and answers with `status`."""

    def __init__(self) -> None:
        self.status, self.requests = 200, []
        target = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                target.requests.append((self.command, self.path, self.headers, body))
                self.send_response(target.status)
                self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                self.end_headers()

            do_POST = do_PUT = answer  # noqa: N815 - of the standard library

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def target() -> Iterator[Target]:
    target = Target()
    yield target
    target.close()


def test_a_url_gets_a_post(target):
    parameters = {
        "HeaderParameters": {"X-Token": "t"},
        "QueryStringParameters": {"q": "a b"},
    }
    url_call(f"{target.url}/hook?x=1", parameters).send('{"é": 1}')
    ((method, path, headers, body),) = target.requests
    assert (method, path, body) == ("POST", "/hook?x=1&q=a+b", '{"é": 1}'.encode())
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    assert headers["X-Token"] == "t"


@pytest.mark.parametrize(
    ("status", "is_final"),
    [(301, True), (400, True), (404, True), (401, False), (409, False), (429, False), (503, False)],
)
def test_answers_that_are_failures(target, status, is_final):
    target.status = status
    with pytest.raises(DeliveryError, match=f"answered {status}") as caught:
        url_call(target.url, {"QueryStringParameters": {"key": "secret"}}).send("{}")
    assert caught.value.is_final is is_final
    assert "secret" not in str(caught.value)
    assert len(target.requests) == 1


def test_a_target_that_is_not_there_or_never_answers(monkeypatch):
    monkeypatch.setattr(http_targets, "SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(DeliveryError, match="failed") as caught:
            url_call(url, {}).send("{}")
    assert not caught.value.is_final
    with pytest.raises(DeliveryError, match="failed"):
        url_call(url, {}).send("{}")


def _destination(bridge, target, auth, **members):
    connection = bridge.call("CreateConnection", Name="c", **auth)["ConnectionArn"]
    return bridge.call(
        "CreateApiDestination",
        Name="d",
        ConnectionArn=connection,
        HttpMethod="PUT",
        **{"InvocationEndpoint": f"{target.url}/*/x", **members},
    )["ApiDestinationArn"]


API_KEY = {
    "AuthorizationType": "API_KEY",
    "AuthParameters": {
        "ApiKeyAuthParameters": {"ApiKeyName": "X-Key", "ApiKeyValue": "hidden1"},
        "InvocationHttpParameters": {
            "HeaderParameters": [
                {"Key": "X-Team", "Value": "a"},
                {"Key": "X-Secret", "Value": "hidden2", "IsValueSecret": True},
            ],
            "QueryStringParameters": [{"Key": "v", "Value": "2"}],
            "BodyParameters": [{"Key": "extra", "Value": "e"}],
        },
    },
}
BASIC = {
    "AuthorizationType": "BASIC",
    "AuthParameters": {"BasicAuthParameters": {"Username": "u", "Password": "hidden3"}},
}


def test_an_api_destination_gets_what_its_connection_and_target_say(bridge, target):
    arn = _destination(bridge, target, API_KEY)
    parameters = {
        "PathParameterValues": ["a/b"],
        "HeaderParameters": {"X-Team": "other", "X-Own": "o"},
        "QueryStringParameters": {"v": "1", "w": "3"},
    }
    bridge.rule("r", {"Id": "1", "Arn": arn, "RoleArn": ROLE, "HttpParameters": parameters})
    entry = {"Source": "a", "DetailType": "t", "Detail": "{}"}
    bridge.again()
    bridge.run(lambda: bridge.call("PutEvents", Entries=[entry]))
    ((method, path, headers, body),) = target.requests
    assert (method, path) == ("PUT", "/a%2Fb/x?v=2&w=3")
    shown = [headers[name] for name in ("X-Key", "X-Team", "X-Secret", "X-Own")]
    assert shown == ["hidden1", "a", "hidden2", "o"]
    assert json.loads(body)["extra"] == "e"
    assert json.loads(body)["source"] == "a"


def test_paths_in_parameters_are_parts_of_the_event(bridge, target):
    """As a whole text; what is not in the event is an empty text."""
    arn = _destination(bridge, target, API_KEY)
    parameters = {
        "PathParameterValues": ["$.detail.name"],
        "HeaderParameters": {"X-Own": "$.detail.status", "X-None": "$.detail.none"},
        "QueryStringParameters": {"n": "$.detail.count", "t": "of $.detail.name", "p": "$.5 off"},
    }
    bridge.rule("r", {"Id": "1", "Arn": arn, "RoleArn": ROLE, "HttpParameters": parameters})
    detail = json.dumps({"name": "a/b", "status": "Failed", "count": 3})
    entry = {"Source": "a", "DetailType": "t", "Detail": detail}
    bridge.run(lambda: bridge.call("PutEvents", Entries=[entry]))
    ((_, path, headers, _),) = target.requests
    assert path == "/a%2Fb/x?n=3&t=of+%24.detail.name&p=%24.5+off&v=2"
    assert (headers["X-Own"], headers["X-None"]) == ("Failed", "")


def test_basic_authorization(bridge, target):
    arn = _destination(bridge, target, BASIC, InvocationEndpoint=target.url)
    bridge.rule("r", {"Id": "1", "Arn": arn, "RoleArn": ROLE, "Input": "[1]"})
    entry = {"Source": "a", "DetailType": "t", "Detail": "{}"}
    bridge.run(lambda: bridge.call("PutEvents", Entries=[entry]))
    ((_, path, headers, body),) = target.requests
    assert (path, headers["Authorization"], body) == ("/", "Basic dTpoaWRkZW4z", b"[1]")


def test_no_answer_has_a_secret(bridge, target):
    _destination(bridge, target, API_KEY, Description="d", InvocationRateLimitPerSecond=5)
    bridge.again()
    answers = [
        bridge.call("DescribeConnection", Name="c"),
        bridge.call("ListConnections"),
        bridge.call("UpdateConnection", Name="c", Description="new"),
        bridge.call("DescribeApiDestination", Name="d"),
        bridge.call("ListApiDestinations", NamePrefix="d"),
        bridge.call("UpdateApiDestination", Name="d", HttpMethod="POST"),
        bridge.call("DeleteConnection", Name="c"),
    ]
    assert "hidden" not in repr(answers)
    described = answers[0]["AuthParameters"]
    assert described["ApiKeyAuthParameters"] == {"ApiKeyName": "X-Key"}
    assert described["InvocationHttpParameters"]["HeaderParameters"] == [
        {"Key": "X-Team", "Value": "a"},
        {"Key": "X-Secret", "IsValueSecret": True},
    ]
    assert answers[3]["InvocationRateLimitPerSecond"] == 5
    destination = bridge.call("DescribeApiDestination", Name="d")
    assert (destination["HttpMethod"], destination["ApiDestinationState"]) == ("POST", "INACTIVE")
    bridge.call("DeleteApiDestination", Name="d")
    with pytest.raises(AwsError, match="does not exist"):
        bridge.call("DescribeApiDestination", Name="d")


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"AuthorizationType": "OAUTH_CLIENT_CREDENTIALS"}, "is not supported by this local"),
        ({"AuthorizationType": "BASIC"}, "BASIC needs AuthParameters.BasicAuthParameters"),
        (
            {"AuthParameters": API_KEY["AuthParameters"] | BASIC["AuthParameters"]},
            "API_KEY may not have AuthParameters.BasicAuthParameters",
        ),
        ({"KmsKeyIdentifier": "k"}, "KmsKeyIdentifier is not supported"),
    ],
)
def test_connections_that_are_refused(bridge, asked, text):
    with pytest.raises(AwsError, match=text):
        bridge.call("CreateConnection", Name="c", **{**API_KEY, **asked})


def test_a_container_may_not_make_destinations(bridge):
    token = CALLER.set(Principal("secret", "arn:aws:sts::000000000000:assumed-role/r/s"))
    try:
        with pytest.raises(AwsError, match="may not name URLs"):
            bridge.call("CreateConnection", Name="c", **API_KEY)
    finally:
        CALLER.reset(token)


def test_a_destination_that_is_deleted_is_not_tried_again(bridge, target):
    arn = _destination(bridge, target, API_KEY)
    bridge.rule("r", {"Id": "1", "Arn": arn, "RoleArn": ROLE})
    entry = {"Source": "a", "DetailType": "t", "Detail": "{}"}
    bridge.run(lambda: bridge.call("PutEvents", Entries=[entry]))  # without PathParameterValues
    bridge.call("DeleteApiDestination", Name="d")
    bridge.again()
    bridge.run(lambda: bridge.call("PutEvents", Entries=[entry]))
    lines = (bridge.state / "events" / "undelivered.jsonl").read_text().splitlines()
    first, second = (json.loads(line)["reason"] for line in lines)
    assert "more asterisks than PathParameterValues" in first
    assert second == f"{arn} does not exist"
    assert target.requests == []


def test_a_connection_that_is_deleted_during_an_update_stays_deleted(bridge, monkeypatch):
    bridge.call("CreateConnection", Name="c", **BASIC)
    check = api_destinations._check_connection
    began, freed = threading.Event(), threading.Event()

    def slow(record):
        check(record)
        began.set()
        freed.wait(SECONDS)

    monkeypatch.setattr(api_destinations, "_check_connection", slow)
    update, delete = (
        threading.Thread(target=bridge.operations[name], args=({"Name": "c"},))
        for name in ("UpdateConnection", "DeleteConnection")
    )
    update.start()
    assert began.wait(SECONDS)
    delete.start()
    delete.join(0.1)  # it waits for the update
    freed.set()
    update.join()
    delete.join()
    assert bridge.call("ListConnections")["Connections"] == []
    assert not list((bridge.state / "events" / "connections").iterdir())


def test_what_is_deleted_while_it_is_listed_is_left_out(bridge, target, monkeypatch):
    _destination(bridge, target, BASIC, InvocationEndpoint=target.url)
    bridge.call("CreateEventBus", Name="b")
    service = bridge.service
    for part in (service._connections, service._destinations, service._buses):
        monkeypatch.setattr(part._records, "get", lambda _: None)
    assert bridge.call("ListConnections")["Connections"] == []
    assert bridge.call("ListApiDestinations")["ApiDestinations"] == []
    assert bridge.call("ListEventBuses")["EventBuses"] == []
