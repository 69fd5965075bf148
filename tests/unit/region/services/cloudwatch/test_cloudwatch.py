"""CloudWatch's operations on metrics."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from tests.support.members import unread_members

from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.services.cloudwatch import metric_queries, metric_store
from sagemaker_byoc.region.services.cloudwatch.cloudwatch import CloudWatch
from sagemaker_byoc.region.services.cloudwatch.metric_store import MetricStore
from sagemaker_byoc.region.wire.operations import AwsError

NOW = datetime(2026, 11, 30, 12, 0, 30, tzinfo=UTC)
MINUTE = NOW.replace(second=0)


@pytest.fixture
def api(tmp_path):
    store = MetricStore(tmp_path, clock=NOW.timestamp)
    operations = CloudWatch(
        tmp_path, store, Account(), publish=print, clock=NOW.timestamp
    ).operations()

    def call(name, **parameters):
        return operations[name](parameters)

    call.operations = operations
    yield call
    store.close()


def put(api, value=1.0, minutes=0.0, name="m", **more):
    datum = {"MetricName": name, "Timestamp": NOW - timedelta(minutes=minutes), **more}
    if not {"Values", "StatisticValues"} & more.keys():
        datum["Value"] = value
    api("PutMetricData", Namespace="n", MetricData=[datum])


def statistics(api, *names, hours=1.0, period=60, **more):
    kind = "Statistics" if names and names[0][0].isupper() else "ExtendedStatistics"
    answer = api(
        "GetMetricStatistics",
        Namespace="n",
        MetricName=more.pop("name", "m"),
        StartTime=NOW - timedelta(hours=hours),
        EndTime=NOW + timedelta(minutes=1),
        Period=period,
        **{kind: list(names)},
        **more,
    )
    return answer["Datapoints"]


def query(identity="q", stat="Sum", period=60, name="m", **more):
    metric = {"Namespace": "n", "MetricName": name}
    return {
        "Id": identity,
        "MetricStat": {"Metric": metric, "Period": period, "Stat": stat},
        **more,
    }


def data(api, *queries, hours=1.0, **more):
    return api(
        "GetMetricData",
        MetricDataQueries=list(queries),
        StartTime=NOW - timedelta(hours=hours),
        EndTime=NOW + timedelta(minutes=1),
        **more,
    )


def refusal(call, *arguments, **parameters):
    with pytest.raises(AwsError) as found:
        call(*arguments, **parameters)
    return found.value


def test_no_member_is_ignored(api):
    put(api)
    known = {
        "Namespace": "n",
        "MetricName": "m",
        "StartTime": NOW - timedelta(hours=1),
        "EndTime": NOW,
        "Period": 60,
        "Statistics": ["Sum"],
        "ExtendedStatistics": ["p50"],
        "MaxDatapoints": 5,
        "MetricDataQueries": [query()],
        "MetricData": [{"MetricName": "m", "Value": 1.0}],
        "EntityMetricData": [{"MetricData": [{"MetricName": "m", "Value": 1.0}]}],
        "NextToken": None,
    }
    names = ("PutMetricData", "GetMetricData", "GetMetricStatistics", "ListMetrics")
    operations = {name: api.operations[name] for name in names}
    always = ("MetricData", "Statistics")
    assert unread_members("cloudwatch", operations, always=always, **known) == set()


def test_values_come_back_as_statistics(api):
    put(api, 1.0)
    put(api, 3.0)
    put(api, 10.0, minutes=5)
    names = ("SampleCount", "Average", "Sum", "Minimum", "Maximum")
    earlier, latest = statistics(api, *names)
    expected = {"SampleCount": 2, "Average": 2, "Sum": 4, "Minimum": 1, "Maximum": 3}
    assert latest == {"Timestamp": MINUTE, "Unit": "None", **expected}
    assert earlier["Timestamp"] == MINUTE - timedelta(minutes=5)


def test_percentiles_and_a_statistic_set_without_them(api):
    put(api, Values=[1.0, 100.0], Counts=[99.0, 1.0])
    (point,) = statistics(api, "p50", "p99.9")
    assert point["ExtendedStatistics"] == {"p50": 1.0, "p99.9": 100.0}
    sums = {"SampleCount": 2.0, "Sum": 3.0, "Minimum": 1.0, "Maximum": 2.0}
    put(api, minutes=5, StatisticValues=sums)
    assert len(statistics(api, "p50")) == 1
    assert statistics(api, "Average")[0]["Average"] == 1.5


def test_dimensions_and_units_make_other_metrics(api):
    put(api, 1.0, Dimensions=[{"Name": "a", "Value": "b"}], Unit="Seconds")
    assert statistics(api, "Sum") == []
    (point,) = statistics(api, "Sum", Dimensions=[{"Name": "a", "Value": "b"}])
    assert point["Unit"] == "Seconds"
    dimensions = [{"Name": "a", "Value": "b"}]
    assert statistics(api, "Sum", Dimensions=dimensions, Unit="Count") == []


def test_the_limit_of_datapoints_in_awss_words(api):
    assert statistics(api, "Sum", hours=23.9) == []
    error = refusal(statistics, api, "Sum", hours=48)
    assert error.code == "InvalidParameterCombination"
    assert error.message == (
        "You have requested up to 2,882 datapoints, which exceeds the limit of 1,440. You may"
        " reduce the datapoints requested by increasing Period, or decreasing the time range."
    )
    statistics(api, "Sum", hours=48, period=300)


@pytest.mark.parametrize("period", [2, 15, 45, 61, 90, 2**70 * 60])
def test_periods_that_aws_does_not_have(api, period):
    assert refusal(statistics, api, "Sum", period=period).code == "InvalidParameterValue"
    assert refusal(data, api, query(period=period)).code == "InvalidParameterValue"


def test_an_old_start_is_rounded_down(api):
    put(api, minutes=13 * 24 * 60)
    (point,) = statistics(api, "Sum", hours=24 * 16.01, period=3600)
    assert point["Timestamp"].minute % 5 == 0


def test_all_of_time_may_be_asked_for(api):
    put(api)
    answer = api(
        "GetMetricData",
        MetricDataQueries=[query(period=455 * 86_400)],
        StartTime=datetime.min.replace(tzinfo=UTC),
        EndTime=datetime.max.replace(tzinfo=UTC),
    )
    assert answer["MetricDataResults"][0]["Values"] == [1]


def test_refused_statistics(api):
    assert "Must specify either" in refusal(statistics, api).message
    assert refusal(statistics, api, "p101").code == "InvalidParameterValue"
    assert refusal(data, api, query(stat="Median")).code == "InvalidParameterValue"
    start = NOW + timedelta(hours=1)
    error = refusal(api, "GetMetricData", MetricDataQueries=[query()], StartTime=start, EndTime=NOW)
    assert error.message == "The parameter EndTime must be greater than StartTime."
    error = refusal(api, "GetMetricData", MetricDataQueries=[query()], StartTime=NOW, EndTime=NOW)
    assert "must not equal" in error.message
    assert "StartTime must be less" in refusal(statistics, api, "Sum", hours=-1).message


BAD = [
    ({"Value": float("nan")}, "InvalidParameterValue", "The value nan for parameter"),
    ({"Value": float("-inf")}, "InvalidParameterValue", "MetricData.member.1.Value"),
    ({"Value": 2.0**361}, "InvalidParameterValue", "is invalid"),
    ({}, "MissingParameter", "At least one of"),
    ({"Value": 1.0, "Values": [1.0]}, "InvalidParameterCombination", "mutually exclusive"),
    ({"Value": 1.0, "Counts": [1.0]}, "InvalidParameterCombination", "Counts needs"),
    ({"Values": [1.0], "Counts": [1.0, 2.0]}, "InvalidParameterValue", "of the same size"),
    ({"Values": [1.0], "Counts": [0.0]}, "InvalidParameterValue", "Counts"),
    ({"Values": []}, "InvalidParameterValue", "from 1 to 150"),
    ({"Values": [1.0] * 151}, "InvalidParameterValue", "from 1 to 150"),
    ({"Value": 1.0, "StorageResolution": 5}, "InvalidParameterValue", "StorageResolution"),
    ({"Value": 1.0, "Timestamp": NOW - timedelta(days=15)}, "InvalidParameterValue", "two weeks"),
    ({"Value": 1.0, "Timestamp": NOW + timedelta(hours=3)}, "InvalidParameterValue", "two hours"),
    ({"Value": 1.0, "MetricName": "a\nb"}, "InvalidParameterValue", "MetricName"),
    ({"Value": 1.0, "Dimensions": [{"Name": ":a", "Value": "b"}]}, "InvalidParameterValue", "Name"),
    ({"Value": 1.0, "Dimensions": [{"Name": "a", "Value": "é"}]}, "InvalidParameterValue", "Value"),
    ({"Value": 1.0, "Dimensions": [{"Name": "a", "Value": " "}]}, "InvalidParameterValue", "Value"),
    ({"Value": 1.0, "Dimensions": [{"Name": "a", "Value": "b"}] * 2}, "InvalidParameterValue",
     "more than once"),
    ({"StatisticValues": {"SampleCount": 0.0, "Sum": 1.0, "Minimum": 1.0, "Maximum": 1.0}},
     "InvalidParameterValue", "SampleCount"),
    ({"StatisticValues": {"SampleCount": 1.0, "Sum": 1.0, "Minimum": 2.0, "Maximum": 1.0}},
     "InvalidParameterValue", "must be greater"),
]  # fmt: skip


@pytest.mark.parametrize(("datum", "code", "words"), BAD)
def test_a_datum_that_is_refused_refuses_the_whole_request(api, datum, code, words):
    good = {"MetricName": "m", "Value": 1.0}
    error = refusal(
        api, "PutMetricData", Namespace="n", MetricData=[{"MetricName": "m", **datum}, good]
    )
    assert error.code == code
    assert words in error.message
    assert statistics(api, "Sum") == []


@pytest.mark.parametrize("namespace", ["AWS/SageMaker", "AWS/", "né", ":n", "a\nb"])
def test_namespaces_that_are_refused(api, namespace):
    datum = {"MetricName": "m", "Value": 1.0}
    error = refusal(api, "PutMetricData", Namespace=namespace, MetricData=[datum])
    assert error.message == f"The value {namespace} for parameter Namespace is invalid."


def test_a_full_store_is_not_an_error_that_sdks_try_again(api, monkeypatch):
    monkeypatch.setattr(metric_store, "SERIES", 1)
    data = [{"MetricName": name, "Value": 1.0} for name in "mx"]
    assert api("PutMetricData", Namespace="n", MetricData=data) == {}
    assert statistics(api, "SampleCount")[0]["SampleCount"] == 1
    assert statistics(api, "SampleCount", name="x") == []


def test_the_limit_of_metrics_counts_those_of_entities(api):
    datum = {"MetricName": "m", "Value": 1.0}
    entity = {"Entity": {}, "MetricData": [datum] * 500}
    api("PutMetricData", Namespace="n", MetricData=[datum] * 500, EntityMetricData=[entity])
    assert statistics(api, "Sum")[0]["Sum"] == 1000
    error = refusal(
        api, "PutMetricData", Namespace="n", MetricData=[datum] * 501, EntityMetricData=[entity]
    )
    assert "greater than 1000" in error.message
    assert refusal(api, "PutMetricData", Namespace="n", MetricData=[]).code == "MissingParameter"


def test_metric_data_newest_first_by_default(api):
    for minutes in range(3):
        put(api, float(minutes), minutes=minutes)
    (result,) = data(api, query())["MetricDataResults"]
    assert result["Values"] == [0, 1, 2]
    assert result["Timestamps"][0] == MINUTE
    assert (result["Label"], result["StatusCode"]) == ("m", "Complete")
    labeled = query(Label="Mine", stat="p50")
    (result,) = data(api, labeled, ScanBy="TimestampAscending")["MetricDataResults"]
    assert (result["Label"], result["Values"]) == ("Mine", [2, 1, 0])


def test_a_metric_without_values_is_an_empty_result(api):
    (result,) = data(api, query())["MetricDataResults"]
    assert (result["Values"], result["StatusCode"]) == ([], "Complete")
    assert data(api, query(ReturnData=False))["MetricDataResults"] == []


@pytest.mark.parametrize("scan", ["TimestampAscending", "TimestampDescending"])
def test_pages_of_metric_data_have_everything_once(api, scan):
    for minutes in range(5):
        put(api, float(minutes), minutes=minutes, name="a")
        put(api, float(10 + minutes), minutes=minutes, name="b")
        put(api, float(20 + minutes), minutes=minutes, name="b", Unit="Seconds")
    queries = [query("a", name="a"), query("none", name="none"), query("b", name="b")]
    seen, token, pages = {}, None, 0
    while True:
        more = {"NextToken": token} if token else {}
        answer = data(api, *queries, MaxDatapoints=3, ScanBy=scan, **more)
        assert sum(len(result["Values"]) for result in answer["MetricDataResults"]) <= 3
        for result in answer["MetricDataResults"]:
            seen.setdefault(result["Id"], []).extend(result["Values"])
        token, pages = answer.get("NextToken"), pages + 1
        if token is None:
            break
    assert pages == 5
    assert seen["none"] == []
    assert sorted(seen["a"]) == [0, 1, 2, 3, 4]
    assert sorted(seen["b"]) == [10, 11, 12, 13, 14, 20, 21, 22, 23, 24]


@pytest.mark.parametrize("token", ["x", "bnVsbA==", "WzEsMl0=", "é", "Wy0xLG51bGxd"])
def test_tokens_that_are_not_ours(api, token):
    assert refusal(data, api, query(), NextToken=token).code == "InvalidNextToken"
    error = refusal(api, "ListMetrics", NextToken=token)
    assert error.message == "Request parameter NextToken is invalid"


@pytest.mark.parametrize(
    ("queries", "words"),
    [
        ([{"Id": "q", "Expression": "m1 / m2"}], "MetricDataQueries.member.1.Expression is not"),
        ([query(), query("r", AccountId="1")], "MetricDataQueries.member.2.AccountId is not"),
        ([{"Id": "q"}], "member.1.MetricStat is required"),
        ([query("Q")], "is not matching the expected pattern"),
        ([query(), query()], "must be unique"),
        ([], "from 1 to 500"),
        ([query(str(number)) for number in range(1, 2)], "pattern"),
        ([{"Id": "q", "MetricStat": {"Metric": {}, "Period": 60, "Stat": "Sum"}}], "Namespace"),
    ],
)
def test_queries_that_are_refused(api, queries, words):
    error = refusal(data, api, *queries)
    assert error.code == "ValidationError"
    assert words in error.message


def test_listed_metrics(api, monkeypatch):
    for name in ("a", "b"):
        for value in ("1", "2"):
            dimensions = [{"Name": "d", "Value": value}, {"Name": "e", "Value": "x"}]
            put(api, name=name, Dimensions=dimensions)
    put(api, name="a", minutes=4 * 60, Dimensions=[{"Name": "f", "Value": "x"}])
    monkeypatch.setattr(metric_queries, "PAGE", 2)

    def names(**parameters):
        found, token = [], None
        while True:
            answer = api("ListMetrics", **parameters, **({"NextToken": token} if token else {}))
            assert len(answer["Metrics"]) <= 2
            found += [
                each["MetricName"] + "".join(pair["Value"] for pair in each["Dimensions"])
                for each in answer["Metrics"]
            ]
            token = answer["NextToken"]
            if token is None:
                return found

    assert names() == ["a1x", "a2x", "ax", "b1x", "b2x"]
    assert names(RecentlyActive="PT3H") == ["a1x", "a2x", "b1x", "b2x"]
    assert names(Namespace="other") == []
    assert names(MetricName="a", Dimensions=[{"Name": "e"}]) == ["a1x", "a2x"]
    assert names(Dimensions=[{"Name": "e"}, {"Name": "d", "Value": "2"}]) == ["a2x", "b2x"]
    assert names(OwningAccount="123456789012") == []
