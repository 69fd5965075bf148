"""Actions of alarms: handlers, URLs, bounds, outcomes."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from sagemaker_byoc.region.core import bounded_http
from sagemaker_byoc.region.services.cloudwatch import alarm_actions

SCALING = "arn:aws:autoscaling:us-east-1:000000000000:scalingPolicy:x"


def test_actions_of_each_state(bench):
    done = []
    bench.cloudwatch.actions.register("arn:mine:", lambda change, arn: done.append(arn))
    bench.put(
        OKActions=["arn:mine:ok"], AlarmActions=["arn:mine:alarm", "arn:aws:sns:x:y:z"],
        InsufficientDataActions=["arn:mine:none"],
    )  # fmt: skip
    bench.minute(95.0)
    bench.minute(95.0)
    bench.minute(10.0)
    bench.close()
    assert done == ["arn:mine:alarm", "arn:mine:ok"]
    bench.open()
    assert sorted(bench.history(HistoryItemType="Action")) == [
        "Failed to execute action arn:aws:sns:x:y:z",
        "Successfully executed action arn:mine:alarm",
        "Successfully executed action arn:mine:ok",
    ]
    items = bench("DescribeAlarmHistory", HistoryItemType="Action")["AlarmHistoryItems"]
    (failed,) = (item for item in items if "Failed" in item["HistorySummary"])
    assert "not delivered" in json.loads(failed["HistoryData"])["error"]


def test_a_repeated_action_gets_new_values_while_the_state_lasts(bench):
    seen = []
    bench.cloudwatch.actions.register(
        "arn:aws:autoscaling:",
        lambda change, arn: seen.append(json.loads(change.alarm["StateReasonData"])),
        is_repeated=True,
    )
    bench.put(AlarmActions=[SCALING, "arn:other:x"])
    bench.minute(95.0)
    bench.minute(97.0)
    bench.minute(10.0)
    bench.close()
    assert [each["recentDatapoints"] for each in seen] == [[95.0], [97.0]]
    bench.open()
    assert len(bench.history(HistoryItemType="Action")) == 3


def test_disabled_actions_do_not_run(bench):
    done = []
    bench.cloudwatch.actions.register("arn:", lambda change, arn: done.append(change.state))
    bench.put(AlarmActions=["arn:a"], OKActions=["arn:a"])
    bench("DisableAlarmActions", AlarmNames=["high", "none"])
    assert bench.alarm()["ActionsEnabled"] is False
    bench.minute(95.0)
    bench("EnableAlarmActions", AlarmNames=["high"])
    bench.minute(10.0)
    bench.close()
    assert done == ["OK"]
    bench.open()
    assert 'Actions of alarm "high" disabled' in bench.history()


def test_an_action_that_fails_is_in_the_history(bench):
    def fail(change, arn):
        raise RuntimeError("out of order")

    bench.cloudwatch.actions.register("arn:", fail)
    bench.put(AlarmActions=["arn:a", "arn:\ud800"])
    bench.minute(95.0)
    bench.close()
    bench.open()
    assert len(bench.history(HistoryItemType="Action")) == 2


def test_actions_that_wait_are_bounded(bench, monkeypatch):
    monkeypatch.setattr(alarm_actions, "QUEUED", 1)
    bench.close()
    bench.open()
    begun, go = threading.Event(), threading.Event()

    def wait(change, arn):
        begun.set()
        assert go.wait(30)

    bench.cloudwatch.actions.register("arn:", wait)
    bench.put(AlarmActions=["arn:1"])
    bench.minute(95.0)
    assert begun.wait(30)
    bench.put(AlarmName="low", AlarmActions=["arn:2", "arn:3"])
    bench("SetAlarmState", AlarmName="low", StateValue="ALARM", StateReason="a test")
    assert bench.history(AlarmName="low")[0] == "Failed to execute action arn:3"
    go.set()


def test_a_url_that_never_answers_delays_no_arn(bench, monkeypatch):
    asked, go, done = threading.Event(), threading.Event(), threading.Event()

    def wait(*_, **__):
        asked.set()
        assert go.wait(120)
        return 200

    monkeypatch.setattr(bounded_http, "send", wait)
    bench.cloudwatch.actions.register("arn:mine:", lambda change, arn: done.set())
    bench.put(AlarmActions=["http://127.0.0.1:1/", "arn:mine:x"])
    bench.minute(95.0)
    try:
        assert asked.wait(30)
        assert done.wait(10)
    finally:
        go.set()


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, json.loads(body)))
        status = {"/bad": 500, "/moved": 302}.get(self.path, 200)
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        server.seen = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_urls_get_the_message_of_a_topic(bench, server):
    url = f"http://127.0.0.1:{server.server_port}"
    bench.put(AlarmActions=[f"{url}/good", f"{url}/bad", f"{url}/moved", "http://127.0.0.1:1/none"])
    bench.minute(95.0)
    bench.close()
    assert [path for path, _ in server.seen] == ["/good", "/bad", "/moved"]
    message = server.seen[0][1]
    assert (message["OldStateValue"], message["NewStateValue"]) == ("INSUFFICIENT_DATA", "ALARM")
    assert message["Trigger"]["Statistic"] == "AVERAGE"
    bench.open()
    outcomes = [summary.split()[0] for summary in bench.history(HistoryItemType="Action")]
    assert sorted(outcomes) == ["Failed", "Failed", "Failed", "Successfully"]
