"""The operations on alarms: checks of requests, in AWS's words, on AlarmRecords."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sagemaker_byoc.region.core import paging, tags
from sagemaker_byoc.region.core.urls import check_url, is_url, require_owner
from sagemaker_byoc.region.services.cloudwatch.alarm_evaluation import (
    OPERATORS,
    TREATMENTS,
    Verdict,
)
from sagemaker_byoc.region.services.cloudwatch.alarm_history import HistoryQuery
from sagemaker_byoc.region.services.cloudwatch.alarm_records import (
    ALARMS,
    AlarmRecords,
    FullError,
)
from sagemaker_byoc.region.services.cloudwatch.metric_queries import read_metric
from sagemaker_byoc.region.services.cloudwatch.metric_writes import (
    invalid_value,
    read_dimensions,
    read_number,
)
from sagemaker_byoc.region.services.cloudwatch.summaries import SIMPLE, parse_statistic
from sagemaker_byoc.region.wire.operations import AwsError, Operations, Parameters

PAGE = 50
_DAY, _WEEK, _HOUR = 86_400, 7 * 86_400, 3600
_PERIODS = frozenset({10, 20, 30})
_REQUIRED = ("MetricName", "Namespace", "Period", "Threshold")
_COPIED = (
    "AlarmDescription",
    "Statistic",
    "ExtendedStatistic",
    "Unit",
    "DatapointsToAlarm",
    "TreatMissingData",
    "EvaluateLowSampleCountPercentile",
)
_NOT_A_NAME = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_ACTIONS = ("OKActions", "AlarmActions", "InsufficientDataActions")
_REFUSED = {
    "Metrics": "it has no metric math; give MetricName, Namespace and Statistic",
    "ThresholdMetricId": "it has no anomaly detection; give a Threshold",
    "EvaluationCriteria": "give MetricName, Namespace and Statistic",
    "EvaluationInterval": "it is for EvaluationCriteria",
    "EvaluationWindow": "its window slides; leave it out",
    "WarmUpConfiguration": "leave it out",
    "ActionConfiguration": "leave it out",
}


class Alarms:
    def __init__(self, records: AlarmRecords, expedite: Callable[[str], None]) -> None:
        """`expedite` lets an alarm be evaluated soon."""
        self._records = records
        self._expedite = expedite

    def operations(self) -> Operations:
        return {
            "DeleteAlarms": self._delete,
            "DescribeAlarmHistory": self._describe_history,
            "DescribeAlarms": self._describe,
            "DescribeAlarmsForMetric": self._describe_for_metric,
            "DisableAlarmActions": self._disable_actions,
            "EnableAlarmActions": self._enable_actions,
            "ListTagsForResource": self._list_tags,
            "PutMetricAlarm": self._put,
            "SetAlarmState": self._set_state,
            "TagResource": self._tag,
            "UntagResource": self._untag,
        }

    def _put(self, parameters: Parameters) -> Parameters:
        configuration = _read_alarm(parameters)
        given = _merged({}, parameters.get("Tags", ()))
        try:
            self._records.put(configuration, given)
        except FullError:
            raise AwsError(
                "LimitExceeded",
                f"The quota for alarms for this customer has already been reached: {ALARMS}.",
            ) from None
        return {}

    def _describe(self, parameters: Parameters) -> Parameters:
        prefix, state = parameters.get("AlarmNamePrefix", ""), parameters.get("StateValue")
        action = parameters.get("ActionPrefix", "")
        if "AlarmNames" in parameters and prefix:
            raise AwsError(
                "ValidationError", "AlarmNamePrefix and AlarmNames cannot be used together"
            )
        related = ("ChildrenOfAlarmName", "ParentsOfAlarmName")
        is_other = any(name in parameters for name in related)  # of composite alarms
        if is_other or "MetricAlarm" not in parameters.get("AlarmTypes", ["MetricAlarm"]):
            return {"MetricAlarms": [], "CompositeAlarms": [], "LogAlarms": []}
        names = [
            name for name in parameters.get("AlarmNames", self._records) if name.startswith(prefix)
        ]
        found = [
            alarm
            for alarm in self._found(names)
            if state in {None, alarm["StateValue"]}
            and (not action or any(each.startswith(action) for each in _actions(alarm)))
        ]
        try:
            part, token = paging.page(
                found,
                lambda alarm: (alarm["AlarmName"],),
                size=parameters.get("MaxRecords", PAGE),
                token=parameters.get("NextToken"),
            )
        except paging.TokenError:
            raise _invalid_token() from None
        return {"MetricAlarms": part, "CompositeAlarms": [], "NextToken": token}

    def _describe_for_metric(self, parameters: Parameters) -> Parameters:
        metric = read_metric(parameters)
        members = ("Statistic", "ExtendedStatistic", "Period", "Unit")
        wanted = {name: parameters[name] for name in members if name in parameters}
        return {
            "MetricAlarms": [
                alarm
                for alarm in self._found(self._records)
                if read_metric(alarm) == metric
                and all(alarm.get(name) == value for name, value in wanted.items())
            ]
        }

    def _describe_history(self, parameters: Parameters) -> Parameters:
        contributor = "AlarmContributorId" in parameters  # of alarms on queries
        if contributor or "MetricAlarm" not in parameters.get("AlarmTypes", ["MetricAlarm"]):
            return {"AlarmHistoryItems": []}
        start, end = parameters.get("StartDate"), parameters.get("EndDate")
        query = HistoryQuery(
            alarm=parameters.get("AlarmName"),
            kind=parameters.get("HistoryItemType"),
            start=0.0 if start is None else start.timestamp(),
            end=1e12 if end is None else end.timestamp(),
            most=parameters.get("MaxRecords", PAGE),
            token=parameters.get("NextToken"),
            descending=parameters.get("ScanBy") != "TimestampAscending",
        )
        try:
            items, token = self._records.history.read(query)
        except paging.TokenError:
            raise _invalid_token() from None
        return {"AlarmHistoryItems": items, "NextToken": token}

    def _set_state(self, parameters: Parameters) -> Parameters:
        data = parameters.get("StateReasonData", "")
        if data:
            try:
                json.loads(data, parse_constant=_refuse_constant)
            except (ValueError, RecursionError):
                raise AwsError("InvalidFormat", "StateReasonData must be valid JSON") from None
        verdict = Verdict(parameters["StateValue"], parameters["StateReason"], data)
        if self._records.set_state(parameters["AlarmName"], verdict) is None:
            raise AwsError(
                "ResourceNotFound", f"{parameters['AlarmName']} is not an alarm", status=404
            )
        self._expedite(parameters["AlarmName"])
        return {}

    def _delete(self, parameters: Parameters) -> Parameters:
        for name in parameters["AlarmNames"]:
            self._records.remove(name)
        return {}

    def _enable_actions(self, parameters: Parameters) -> Parameters:
        self._records.enable_actions(parameters["AlarmNames"], enabled=True)
        return {}

    def _disable_actions(self, parameters: Parameters) -> Parameters:
        self._records.enable_actions(parameters["AlarmNames"], enabled=False)
        return {}

    def _list_tags(self, parameters: Parameters) -> Parameters:
        return {"Tags": tags.as_list(self._records.tags(self._tagged(parameters)) or {})}

    def _tag(self, parameters: Parameters) -> Parameters:
        new = parameters["Tags"]
        self._records.change_tags(self._tagged(parameters), lambda old: _merged(old, new))
        return {}

    def _untag(self, parameters: Parameters) -> Parameters:
        keys = parameters["TagKeys"]
        self._records.change_tags(self._tagged(parameters), lambda old: tags.without(old, keys))
        return {}

    def _tagged(self, parameters: Parameters) -> str:
        """Return the name of the alarm of an ARN. Raise AwsError if there is none."""
        arn = parameters["ResourceARN"]
        name: str = arn.partition(":alarm:")[2]
        if arn != self._records.arn(name) or self._records.tags(name) is None:
            raise AwsError(
                "ResourceNotFoundException", f"{arn} is not an alarm of this region", status=404
            )
        return name

    def _found(self, names: Iterable[str]) -> list[dict[str, Any]]:
        return [alarm for name in names if (alarm := self._records.get(name)) is not None]


def _read_alarm(parameters: Parameters) -> dict[str, Any]:
    """Return the configuration that a request gives. Raise AwsError."""
    for name, hint in _REFUSED.items():
        if name in parameters:
            raise _invalid(f"{name} is not supported by this local region: {hint}")
    _check_name(parameters["AlarmName"])
    for name in (*_REQUIRED, "EvaluationPeriods", "ComparisonOperator"):
        if name not in parameters:
            raise AwsError("MissingParameter", f"The parameter {name} is required.")
    operator = parameters["ComparisonOperator"]
    if operator not in OPERATORS:
        raise _invalid(
            f"ComparisonOperator {operator} is for anomaly detection, which is not supported by"
            f" this local region: use {', '.join(OPERATORS)}"
        )
    _check_statistic(parameters)
    _check_periods(parameters)
    _check_option(parameters, "TreatMissingData", TREATMENTS)
    _check_urls(parameters)
    read_number(parameters["Threshold"], "Threshold")
    _check_option(parameters, "EvaluateLowSampleCountPercentile", ("evaluate", "ignore"))
    dimensions = read_dimensions(parameters.get("Dimensions", ()), "")
    return {
        "AlarmName": parameters["AlarmName"],
        "ActionsEnabled": parameters.get("ActionsEnabled", True),
        **{name: list(parameters.get(name, ())) for name in _ACTIONS},
        **{name: parameters[name] for name in _REQUIRED},
        "EvaluationPeriods": parameters["EvaluationPeriods"],
        "ComparisonOperator": operator,
        "Dimensions": [{"Name": name, "Value": value} for name, value in dimensions.items()],
        **{name: parameters[name] for name in _COPIED if name in parameters},
    }


def _check_name(name: str) -> None:
    if _NOT_A_NAME.search(name):
        raise invalid_value(name, "AlarmName")


def _check_statistic(parameters: Parameters) -> None:
    given = [name for name in ("Statistic", "ExtendedStatistic") if name in parameters]
    if len(given) != 1:
        raise AwsError(
            "InvalidParameterCombination",
            "Exactly one of the parameters Statistic and ExtendedStatistic must be specified.",
        )
    name = parameters.get("ExtendedStatistic")
    if name is None:
        return
    try:
        parse_statistic(name)
    except ValueError:
        raise invalid_value(name, "ExtendedStatistic") from None
    if name in SIMPLE:
        raise invalid_value(name, "ExtendedStatistic")


def _check_periods(parameters: Parameters) -> None:
    period, periods = parameters["Period"], parameters["EvaluationPeriods"]
    if period not in _PERIODS and period % 60:
        raise _invalid("Period must be 10, 20, 30 or a multiple of 60")
    if period * periods > (_DAY if period < _HOUR else _WEEK):
        limit = "a day (EvaluationPeriods * Period must be <= 86400)"
        if period >= _HOUR:
            limit = "a week (EvaluationPeriods * Period must be <= 604800)"
        raise _invalid(f"Metrics cannot be checked across more than {limit}.")
    if parameters.get("DatapointsToAlarm", 1) > periods:
        raise _invalid("DatapointsToAlarm must be less than or equal to EvaluationPeriods.")


def _check_urls(parameters: Parameters) -> None:
    for action in [action for name in _ACTIONS for action in parameters.get(name, ())]:
        if is_url(action):
            require_owner()
            check_url(action, code="ValidationError")


def _check_option(parameters: Parameters, name: str, options: Iterable[str]) -> None:
    value = parameters.get(name)
    if value is not None and value not in options:
        raise _invalid(
            f"Option {value} is not supported. Supported options for parameter {name} are"
            f" {', '.join(options)}."
        )


def _merged(old: Mapping[str, str], new: Iterable[Mapping[str, str]]) -> dict[str, str]:
    try:
        return tags.merged(old, new)
    except tags.TooManyTagsError:
        text = f"An alarm can have at most {tags.MOST} tags."
        raise AwsError("InvalidParameterValue", text) from None
    except tags.ReservedTagError as error:
        raise AwsError("InvalidParameterValue", str(error)) from None


def _refuse_constant(name: str) -> None:
    """Refuse NaN and Infinity, which Python reads and JSON does not have."""
    raise ValueError(name)


def _actions(alarm: Mapping[str, Any]) -> list[str]:
    return [action for name in _ACTIONS for action in alarm[name]]


def _invalid(text: str) -> AwsError:
    return AwsError("ValidationError", text)


def _invalid_token() -> AwsError:
    return AwsError("InvalidNextToken", "Request parameter NextToken is invalid")
