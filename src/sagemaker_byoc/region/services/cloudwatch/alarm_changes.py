"""A change of an alarm's state, in the forms in which AWS passes it on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.core.event_bus import Event
from sagemaker_byoc.region.services.cloudwatch.alarm_evaluation import stamp

DETAIL_TYPE = "CloudWatch Alarm State Change"


@dataclass(frozen=True, slots=True)
class AlarmChange:
    """`alarm` has the members of MetricAlarm, in its new state."""

    alarm: Mapping[str, Any]
    previous: Mapping[str, Any]
    """StateValue, StateReason, StateReasonData and StateUpdatedTimestamp before the change.

    If an action is repeated, there is no change, and they are the present ones.
    """

    @property
    def name(self) -> str:
        name: str = self.alarm["AlarmName"]
        return name

    @property
    def state(self) -> str:
        state: str = self.alarm["StateValue"]
        return state

    def event(self) -> Event:
        """Return the event that AWS sends to EventBridge."""
        alarm = self.alarm
        metric = {
            "namespace": alarm["Namespace"],
            "name": alarm["MetricName"],
            "dimensions": {each["Name"]: each["Value"] for each in alarm["Dimensions"]},
        }
        stat = {
            "metric": metric,
            "period": alarm["Period"],
            "stat": alarm.get("Statistic") or alarm["ExtendedStatistic"],
        }
        configuration = {"metrics": [{"id": "m1", "metricStat": stat, "returnData": True}]}
        if "AlarmDescription" in alarm:
            configuration["description"] = alarm["AlarmDescription"]
        detail = {
            "alarmName": self.name,
            "state": state_document(alarm),
            "previousState": state_document(self.previous),
            "configuration": configuration,
        }
        return Event(
            detail_type=DETAIL_TYPE,
            source="aws.cloudwatch",
            detail=detail,
            resources=(alarm["AlarmArn"],),
            time=alarm["StateUpdatedTimestamp"],
        )

    def notification(self, account: Account) -> dict[str, Any]:
        """Return the message that an SNS topic would get."""
        alarm = self.alarm
        trigger = {
            "MetricName": alarm["MetricName"],
            "Namespace": alarm["Namespace"],
            "StatisticType": "Statistic" if "Statistic" in alarm else "ExtendedStatistic",
            "Unit": alarm.get("Unit"),
            "Dimensions": [
                {"value": each["Value"], "name": each["Name"]} for each in alarm["Dimensions"]
            ],
            "Period": alarm["Period"],
            "EvaluationPeriods": alarm["EvaluationPeriods"],
            "DatapointsToAlarm": alarm.get("DatapointsToAlarm", alarm["EvaluationPeriods"]),
            "ComparisonOperator": alarm["ComparisonOperator"],
            "Threshold": alarm["Threshold"],
            "TreatMissingData": alarm.get("TreatMissingData", "missing"),
            "EvaluateLowSampleCountPercentile": alarm.get("EvaluateLowSampleCountPercentile", ""),
        }
        if "Statistic" in alarm:
            trigger["Statistic"] = alarm["Statistic"].upper()
        else:
            trigger["ExtendedStatistic"] = alarm["ExtendedStatistic"]
        return {
            "AlarmName": self.name,
            "AlarmDescription": alarm.get("AlarmDescription"),
            "AWSAccountId": account.id,
            "AlarmConfigurationUpdatedTimestamp": _stamp(
                alarm["AlarmConfigurationUpdatedTimestamp"]
            ),
            "NewStateValue": self.state,
            "NewStateReason": alarm["StateReason"],
            "StateChangeTime": _stamp(alarm["StateUpdatedTimestamp"]),
            "Region": account.region,
            "AlarmArn": alarm["AlarmArn"],
            "OldStateValue": self.previous["StateValue"],
            "OKActions": alarm["OKActions"],
            "AlarmActions": alarm["AlarmActions"],
            "InsufficientDataActions": alarm["InsufficientDataActions"],
            "Trigger": trigger,
        }

    def history(self) -> dict[str, Any]:
        """Return HistoryData of the change."""
        states = {"oldState": self.previous, "newState": self.alarm}
        documents = {
            name: {"stateValue": state["StateValue"], "stateReason": state["StateReason"]}
            for name, state in states.items()
        }
        return {"version": "1.0", "type": "Update", **documents}


def state_document(alarm: Mapping[str, Any]) -> dict[str, Any]:
    found = {
        "value": alarm["StateValue"],
        "reason": alarm["StateReason"],
        "timestamp": _stamp(alarm["StateUpdatedTimestamp"]),
    }
    if alarm.get("StateReasonData"):
        found["reasonData"] = alarm["StateReasonData"]
    return found


def _stamp(time: Any) -> str:
    return stamp(time.timestamp())
