"""The operations of CloudWatch, on a MetricStore."""

from __future__ import annotations

import time
from collections.abc import Callable

from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.services.cloudwatch import metric_queries
from sagemaker_byoc.region.services.cloudwatch.metric_data import put_metric_data
from sagemaker_byoc.region.services.cloudwatch.metric_store import MetricStore
from sagemaker_byoc.region.wire.operations import Operations, Parameters


class CloudWatch:
    def __init__(
        self, store: MetricStore, account: Account, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._account = account
        self._clock = clock

    def operations(self) -> Operations:
        return {
            "GetMetricData": self._get_data,
            "GetMetricStatistics": self._get_statistics,
            "ListMetrics": self._list_metrics,
            "PutMetricData": self._put_data,
        }

    def _put_data(self, parameters: Parameters) -> Parameters:
        return put_metric_data(self._store, parameters, self._clock())

    def _get_data(self, parameters: Parameters) -> Parameters:
        return metric_queries.get_metric_data(self._store, parameters, self._clock())

    def _get_statistics(self, parameters: Parameters) -> Parameters:
        return metric_queries.get_metric_statistics(self._store, parameters, self._clock())

    def _list_metrics(self, parameters: Parameters) -> Parameters:
        now, account = self._clock(), self._account.id
        return metric_queries.list_metrics(self._store, parameters, now, account)
