"""EventBridge through botocore's clients, with checked answers."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue

import pytest
from tests.region.test_hosting import BOUND

pytestmark = pytest.mark.slow

ANY = json.dumps({"source": [{"anything-but": "aws.nothing"}]})
ENTRY = {"Source": "mine", "DetailType": "test"}


@contextmanager
def receiver():
    """A URL, and what it gets."""
    got: Queue[dict] = Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            got.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def hook():
    with receiver() as found:
        yield found


def test_answers_have_the_shapes_of_the_model(region, hook):
    events = region.client("events")
    bus = events.create_event_bus(Name="own", Tags=[{"Key": "a", "Value": "b"}])["EventBusArn"]
    events.put_rule(Name="r", EventPattern=ANY, EventBusName=bus, Description="d")
    events.put_targets(Rule="r", EventBusName="own", Targets=[{"Id": "1", "Arn": hook[0]}])
    entries = [{**ENTRY, "EventBusName": bus, "Detail": "{}"}, {**ENTRY, "Detail": "x"}]
    assert events.put_events(Entries=entries)["FailedEntryCount"] == 1
    assert hook[1].get(timeout=BOUND)["source"] == "mine"
    events.put_rule(Name="s", ScheduleExpression="rate(5 minutes)")
    events.disable_rule(Name="s")
    assert [each["State"] for each in events.list_rules()["Rules"]] == ["DISABLED"]
    for call, asked in (
        (events.describe_rule, {"Name": "r", "EventBusName": "own"}),
        (events.list_targets_by_rule, {"Rule": "r", "EventBusName": "own"}),
        (events.list_rule_names_by_target, {"TargetArn": hook[0], "EventBusName": "own"}),
        (events.describe_event_bus, {"Name": "own"}),
        (events.list_event_buses, {}),
        (events.list_tags_for_resource, {"ResourceARN": bus}),
    ):
        call(**asked)
    with pytest.raises(events.exceptions.InvalidEventPatternException):
        events.put_rule(Name="bad", EventPattern='{"source": "mine"}')
    with pytest.raises(events.exceptions.ResourceNotFoundException):
        events.describe_rule(Name="none")
    events.remove_targets(Rule="r", EventBusName="own", Ids=["1"])
    events.delete_rule(Name="r", EventBusName="own")
    events.delete_rule(Name="s")
    events.delete_event_bus(Name="own")


def test_every_kind_has_events(region, hook):
    """A model, a configuration and an endpoint that is deleted, in AWS's words."""
    url, got = hook
    events, sagemaker = region.client("events"), region.client("sagemaker")
    events.put_rule(Name="all", EventPattern='{"source": ["aws.sagemaker"]}')
    events.put_targets(Rule="all", Targets=[{"Id": "1", "Arn": url}])
    role = region.account.role
    container = {"Image": "byoc-serve"}
    sagemaker.create_model(ModelName="m", ExecutionRoleArn=role, PrimaryContainer=container)
    variant = {"VariantName": "v", "ModelName": "m"}
    instance = {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(
        EndpointConfigName="c", ProductionVariants=[{**variant, **instance}]
    )
    sagemaker.delete_endpoint_config(EndpointConfigName="c")
    sagemaker.delete_model(ModelName="m")
    found = [got.get(timeout=BOUND) for _ in range(4)]
    assert [(each["detail-type"], each["resources"][0].rpartition(":")[2]) for each in found] == [
        ("SageMaker Model State Change", "model/m"),
        ("SageMaker Endpoint Config State Change", "endpoint-config/c"),
        ("SageMaker Endpoint Config State Change", "endpoint-config/c"),
        ("SageMaker Model State Change", "model/m"),
    ]
    assert found[1]["detail"]["ProductionVariants"][0]["ModelName"] == "m"
    events.remove_targets(Rule="all", Ids=["1"])
    events.delete_rule(Name="all")


def test_a_silent_target_does_not_delay_others(region, hook):
    url, got = hook
    events = region.client("events")
    events.put_rule(Name="two", EventPattern=ANY)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mute = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        once = {"MaximumRetryAttempts": 0}
        targets = [{"Id": "mute", "Arn": mute, "RetryPolicy": once}, {"Id": "hook", "Arn": url}]
        events.put_targets(Rule="two", Targets=targets)
        for number in range(20):
            detail = json.dumps({"n": number})
            events.put_events(Entries=[{**ENTRY, "Detail": detail}])
        numbers = [got.get(timeout=BOUND)["detail"]["n"] for _ in range(20)]
    assert numbers == [*range(20)]
    events.remove_targets(Rule="two", Ids=["mute", "hook"])
    events.delete_rule(Name="two")
