"""CloudWatch: the operations on metrics and alarms, and the thread that evaluates the alarms."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.core.event_bus import Event
from sagemaker_byoc.region.services.cloudwatch import metric_queries
from sagemaker_byoc.region.services.cloudwatch.alarm_actions import AlarmActions
from sagemaker_byoc.region.services.cloudwatch.alarm_records import AlarmRecords
from sagemaker_byoc.region.services.cloudwatch.alarm_ticker import AlarmTicker
from sagemaker_byoc.region.services.cloudwatch.alarms import Alarms
from sagemaker_byoc.region.services.cloudwatch.metric_store import MetricStore
from sagemaker_byoc.region.services.cloudwatch.metric_writes import put_metric_data
from sagemaker_byoc.region.wire.operations import Operations, Parameters


class CloudWatch:
    """A Part of the region: its alarms are evaluated between `start` and `close`.

    `publish` gets an event for each change of an alarm's state.
    """

    def __init__(
        self,
        folder: Path,
        store: MetricStore,
        account: Account,
        *,
        publish: Callable[[Event], object],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._account = account
        self._clock = clock
        self._records = AlarmRecords(folder, account, clock, publish)
        self._ticker = AlarmTicker(self._records, store, clock)

    @property
    def actions(self) -> AlarmActions:
        """What other services register their handlers of alarm actions with."""
        return self._records.actions

    def start(self) -> None:
        self._ticker.start()

    async def close(self) -> None:
        await asyncio.to_thread(self._end)

    def operations(self) -> Operations:
        return {
            "GetMetricData": self._get_data,
            "GetMetricStatistics": self._get_statistics,
            "ListMetrics": self._list_metrics,
            "PutMetricData": self._put_data,
            **Alarms(self._records, self._ticker.expedite).operations(),
        }

    def _end(self) -> None:
        self._ticker.close()
        self._records.close()

    def _put_data(self, parameters: Parameters) -> Parameters:
        return put_metric_data(self._store, parameters, self._clock())

    def _get_data(self, parameters: Parameters) -> Parameters:
        return metric_queries.get_metric_data(self._store, parameters, self._clock())

    def _get_statistics(self, parameters: Parameters) -> Parameters:
        return metric_queries.get_metric_statistics(self._store, parameters, self._clock())

    def _list_metrics(self, parameters: Parameters) -> Parameters:
        now, account = self._clock(), self._account.id
        return metric_queries.list_metrics(self._store, parameters, now, account)
