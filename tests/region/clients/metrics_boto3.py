"""Metrics and an alarm with boto3, as for CloudWatch of AWS. Prints one JSON object."""

import json
import time
from datetime import UTC, datetime, timedelta

import boto3

cloudwatch = boto3.client("cloudwatch")
namespace, dimensions = "Tests", [{"Name": "Run", "Value": f"boto3-{time.time_ns()}"}]
metric = {"Namespace": namespace, "MetricName": "Loss", "Dimensions": dimensions}
now = datetime.now(UTC)


def put(name, **values):
    datum = {"MetricName": name, "Dimensions": dimensions, **values}
    cloudwatch.put_metric_data(Namespace=namespace, MetricData=[datum])


put("Loss", Value=2.0, Unit="Count", Timestamp=now)
put("Loss", Values=[1.0, 3.0], Counts=[1, 1], Unit="Count", Timestamp=now)
span = {"StartTime": now - timedelta(minutes=5), "EndTime": now + timedelta(minutes=5)}
(point,) = cloudwatch.get_metric_statistics(
    **metric, **span, Period=60, Statistics=["Average", "SampleCount", "Maximum"]
)["Datapoints"]
(percentile,) = cloudwatch.get_metric_statistics(
    **metric, **span, Period=60, ExtendedStatistics=["p50"]
)["Datapoints"]
query = {"Id": "q", "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Sum"}}
pages = cloudwatch.get_paginator("get_metric_data").paginate(MetricDataQueries=[query], **span)
(result,) = pages.build_full_result()["MetricDataResults"]
listed = list(
    cloudwatch.get_paginator("list_metrics")
    .paginate(Namespace=namespace, Dimensions=dimensions)
    .search("Metrics[]")
)
try:
    put("Loss", Value=1.0, Timestamp=now - timedelta(days=20))
    refused = None
except cloudwatch.exceptions.InvalidParameterValueException as error:
    refused = type(error).__name__

# Values of the minutes to come, so that the first evaluation finds some, however late it is.
fast = {"MetricName": "Fast", "Dimensions": dimensions, "Value": 10.0, "StorageResolution": 1}
times = [now + timedelta(seconds=seconds) for seconds in range(-60, 600, 10)]
cloudwatch.put_metric_data(
    Namespace=namespace, MetricData=[{**fast, "Timestamp": each} for each in times]
)
name = f"boto3-{time.time_ns()}"
cloudwatch.put_metric_alarm(
    AlarmName=name,
    Namespace=namespace,
    MetricName="Fast",
    Dimensions=dimensions,
    Statistic="Maximum",
    Period=10,
    EvaluationPeriods=1,
    Threshold=5.0,
    ComparisonOperator="GreaterThanThreshold",
    TreatMissingData="ignore",
    Tags=[{"Key": "team", "Value": "ml"}],
)
cloudwatch.get_waiter("alarm_exists").wait(AlarmNames=[name])
deadline = time.monotonic() + 120
while True:
    (alarm,) = cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    if alarm["StateValue"] != "INSUFFICIENT_DATA" or time.monotonic() > deadline:
        break
    time.sleep(0.2)
history = cloudwatch.describe_alarm_history(AlarmName=name, HistoryItemType="StateUpdate")
tags = cloudwatch.list_tags_for_resource(ResourceARN=alarm["AlarmArn"])["Tags"]
cloudwatch.delete_alarms(AlarmNames=[name])
assert not cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"]

print(
    json.dumps(
        {
            "statistics": {key: point[key] for key in ("Average", "SampleCount", "Maximum")},
            "p50": percentile["ExtendedStatistics"]["p50"],
            "data": {"values": result["Values"], "status": result["StatusCode"]},
            "listed": len(listed),
            "refused": refused,
            "alarm": alarm["StateValue"],
            "reason": alarm["StateReason"],
            "history": [item["HistorySummary"] for item in history["AlarmHistoryItems"]],
            "tags": {tag["Key"]: tag["Value"] for tag in tags},
        }
    )
)
