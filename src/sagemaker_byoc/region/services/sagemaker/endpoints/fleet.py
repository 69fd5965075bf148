"""A fleet: all instances of one deployment of an endpoint (AWS's word: blue and green fleets)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path

from sagemaker_byoc.contract import folders
from sagemaker_byoc.contract.errors import ByocError
from sagemaker_byoc.region.containers.health import EndpointError
from sagemaker_byoc.region.services.sagemaker.endpoints.configs import VariantPlan
from sagemaker_byoc.region.services.sagemaker.endpoints.instance import Deployment, Instance
from sagemaker_byoc.region.services.sagemaker.models import ModelData, fetch

DRAIN_SECONDS = 60.0
"""The longest time of an invocation."""


class Variant:
    """The instances of a variant, and its share of the traffic."""

    def __init__(self, plan: VariantPlan) -> None:
        self.plan = plan
        self.weight = plan.weight
        self.credit = 0.0
        """See Fleet.choose."""
        self.instances: list[Instance] = []
        self._turn = 0

    @property
    def healthy(self) -> int:
        return sum(instance.is_healthy for instance in self.instances)

    def choose(self) -> Instance | None:
        """Return the healthy instance with the fewest requests; in turn if several have as few."""
        count = len(self.instances)
        if count == 1:
            only = self.instances[0]
            return only if only.is_healthy else None
        self._turn += 1
        best: Instance | None = None
        for step in range(count):
            each = self.instances[(self._turn + step) % count]
            if each.is_healthy and (best is None or each.outstanding < best.outstanding):
                best = each
        return best


class Fleet:
    """Variants by name."""

    def __init__(self, deployment: Deployment, plans: Iterable[VariantPlan]) -> None:
        self.variants = {plan.name: Variant(plan) for plan in plans}
        self._deployment = deployment
        self._context = deployment.context
        self._models: dict[ModelData, Path] = {}

    async def start(self) -> None:
        """Start all instances and wait until they are healthy, or leave none.

        Raise EndpointError with SageMaker's sentence and the cause.
        """
        try:
            await self._context.starts.finish(self._fetch_models)
            await self._start_all([(each, each.plan.count) for each in self.variants.values()])
        except BaseException:
            await self.stop(drain=0)
            raise

    async def stop(self, drain: float = DRAIN_SECONDS) -> None:
        instances = [each for variant in self.variants.values() for each in variant.instances]
        await asyncio.gather(*(instance.stop(drain) for instance in instances))
        await self._context.threads.run(folders.remove, self._deployment.folder)

    def hurry(self) -> None:
        """Make a stop that is under way wait for no more requests."""
        for variant in self.variants.values():
            for instance in variant.instances:
                instance.hurry()

    def reweigh(self, weights: Mapping[str, float]) -> None:
        for name, weight in weights.items():
            self.variants[name].weight = weight
        for variant in self.variants.values():
            variant.credit = 0.0

    async def rescale(self, counts: Mapping[str, int]) -> None:
        """Change the number of instances of each variant; those that stay are not restarted.

        Raise EndpointError, leaving the earlier instances, if a new one does not start.
        """
        more = []
        surplus: list[Instance] = []
        for name, count in counts.items():
            variant = self.variants[name]
            more.append((variant, max(0, count - len(variant.instances))))
            surplus += variant.instances[count:]
            del variant.instances[count:]
        stopping = asyncio.gather(*(instance.stop(DRAIN_SECONDS) for instance in surplus))
        try:
            await self._start_all(more)
        finally:
            await stopping

    def choose(self, target: str | None) -> Variant | None:
        """Return the variant `target`, or choose one so that the shares follow the weights exactly.

        At each request every variant is credited with its weight, and the chosen one pays the sum
        of all weights. Variants without a healthy instance are skipped.
        """
        if target is not None:
            return self.variants.get(target)
        if len(self.variants) == 1:
            return next(iter(self.variants.values()))
        total = 0.0
        best: Variant | None = None
        for variant in self.variants.values():
            if variant.weight <= 0 or not variant.healthy:
                continue
            total += variant.weight
            variant.credit += variant.weight
            if best is None or variant.credit > best.credit:
                best = variant
        if best is not None:
            best.credit -= total
        return best

    async def _start_all(self, wanted: list[tuple[Variant, int]]) -> None:
        new = [
            (variant, self._instance(variant)) for variant, count in wanted for _ in range(count)
        ]
        # Registered before they are healthy, so that a stop reaches them.
        for variant, instance in new:
            variant.instances.append(instance)
        instances = [instance for _, instance in new]
        failed = await _start_together(instances)
        if failed is not None:
            number, error = failed
            await asyncio.gather(*(instance.stop() for instance in instances))
            for variant, instance in new:
                if instance in variant.instances:
                    variant.instances.remove(instance)
            raise self._failure(new[number][0].plan, error) from error

    def _instance(self, variant: Variant) -> Instance:
        models = {
            each.name: {folder: self._models[data] for folder, data in each.sources.items()}
            for each in variant.plan.containers
        }
        return Instance(self._deployment, variant.plan, models)

    def _failure(self, variant: VariantPlan, error: BaseException) -> EndpointError:
        if not isinstance(error, ByocError):
            raise error
        sentence = self._deployment.purpose.unhealthy(variant)
        return EndpointError(f"{sentence} Cause: {error.sentence}", hint=error.hint)

    def _fetch_models(self) -> None:
        """Fetch each model once, however many instances use it."""
        for variant in self.variants.values():
            for each in variant.plan.containers:
                for data in each.sources.values():
                    if data not in self._models:
                        target = self._deployment.folder / f"model-{len(self._models)}"
                        target.mkdir(parents=True)
                        fetch(data, self._context.store, target, each.name)
                        self._models[data] = target


async def _start_together(instances: list[Instance]) -> tuple[int, BaseException] | None:
    """Start all; at the first failure give up the others, and return its position and error."""
    if not instances:
        return None
    starts = [asyncio.create_task(instance.start()) for instance in instances]
    first: asyncio.Task[None] | None = None
    try:
        done, _ = await asyncio.wait(starts, return_when=asyncio.FIRST_EXCEPTION)
        first = next((task for task in done if task.exception() is not None), None)
        if first is None:
            return None
    finally:
        if first is not None or not all(task.done() for task in starts):
            for instance in instances:
                instance.give_up()
            await asyncio.gather(*starts, return_exceptions=True)
    error = first.exception()
    assert error is not None
    return starts.index(first), error
