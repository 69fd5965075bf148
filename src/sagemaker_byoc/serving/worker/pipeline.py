"""Requests inside the worker: bodies → handlers → replies; every error becomes a typed answer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sagemaker_byoc.contract import http
from sagemaker_byoc.serving import log, media, wsgi
from sagemaker_byoc.serving.bodies import Data
from sagemaker_byoc.serving.error_replies import NotAcceptable, Overdue, UnsupportedType
from sagemaker_byoc.serving.link import Frame
from sagemaker_byoc.serving.media import MediaType
from sagemaker_byoc.serving.settings import Settings
from sagemaker_byoc.serving.worker import batches, chat, defaults, streams
from sagemaker_byoc.serving.worker.code import apps, default_model, guard
from sagemaker_byoc.serving.worker.code.handlers import TALKS, Handlers
from sagemaker_byoc.serving.worker.code.model_files import ModelError, NoModelError
from sagemaker_byoc.serving.worker.code.redaction import Redaction
from sagemaker_byoc.serving.worker.formats import forms, values
from sagemaker_byoc.serving.worker.formats.forms import RowCheck
from sagemaker_byoc.serving.worker.jobs import Job, exact_header, exact_pairs
from sagemaker_byoc.serving.worker.request_context import OWN_HEADERS, Context
from sagemaker_byoc.serving.worker.sessions import SessionStore, is_only_about_session


@dataclass
class Pipeline:
    """A loaded model with its handlers."""

    settings: Settings
    handlers: Handlers
    slot: int
    model: Any = None
    device: str = "cpu"
    model_dir: str = ""
    row_check: RowCheck | None = None
    redaction: Redaction | None = None
    adapters: dict[str, str] = field(default_factory=dict)
    """Folders of loaded adapters, by name."""
    sessions: SessionStore = field(default_factory=SessionStore)
    predictor: defaults.Predictor | None = None
    """The default predict_fn, if the user has none."""
    wanted: defaults.Wanted = defaults.NUMBERS_ONLY
    source: str = "model_fn"
    """Where the model came from, for the log."""

    def __post_init__(self) -> None:
        self._stages = (
            ("decode", self._decode),
            ("predict", self._predict),
            ("encode", self._encode),
        )

    def load(self) -> None:
        """Load and warm up the model; raise whatever the user's functions raise."""
        if self.settings.is_batch:
            self.row_check = RowCheck(self.settings.csv_header)
        capture, redact = self.settings.capture, self.handlers.get("redact_fn")
        if capture is not None and redact is not None:
            self.redaction = Redaction(redact, capture.body)
        model_dir = self.model_dir = str(self.settings.model_dir)
        app = self.handlers.app
        if app is not None:
            app.start()
        if app is not None and self.handlers.is_app:
            app.wait_for_ping()
            self.source, self.device = "the application's own", _device()
            return
        self._call("pre_model_fn", model_dir)
        if self.handlers.get("model_fn") is None:
            loaded = self._load_default()
            self.model, self.device, self.source = loaded.model, loaded.device, loaded.source
        else:
            self.device = _device()
            self.model = self._load_by_user()
            self.device = _device()
        self._prepare()
        self._call("model_warmup_fn", model_dir, self.model)
        if self.handlers.buckets:
            self._warm_buckets()

    def _load_by_user(self) -> object:
        try:
            return self._call("model_fn", self.model_dir)
        except AttributeError as error:
            if default_model.is_about_main(error):
                error.add_note(default_model.hint_of(error))
            raise

    def _load_default(self) -> default_model.Loaded:
        try:
            return default_model.load(
                Path(self.model_dir),
                make_model=self.handlers.make_model,
                allow_pickle=self.settings.allow_pickle,
            )
        except NoModelError as error:
            raise NoModelError(f"{error}{self.handlers.lack()}{self._misplaced()}") from None
        except ModelError as error:
            raise ModelError(f"{error}{self._misplaced()}") from None

    def _misplaced(self) -> str:
        """Return a note on handlers that are in the archive where nothing reads them."""
        path = Path(self.model_dir) / self.settings.program
        if self.handlers.file.chosen is not None or not path.is_file():
            return ""
        return f"; {path.name} at the top of the archive is not read: put it into the folder code"

    def _prepare(self) -> None:
        """Prepare the model for the default predict_fn; the user's own functions do it
        themselves."""
        if self.handlers.get("transform_fn") is not None:
            return
        if self.handlers.get("predict_fn") is None:
            self.predictor = defaults.Predictor(self.model, self.device)
            self.wanted = self.predictor.wanted
            if self.handlers.app is None and not any(map(self.handlers.get, TALKS)):
                self.predictor.check()
        else:
            self.wanted = defaults.Wanted(
                tensors=not defaults.is_estimator(self.model),
                anything=self.handlers.batch == 1,  # batches are of rows of numbers
            )

    def _warm_buckets(self) -> None:
        began = time.monotonic()
        sizes = self.handlers.buckets
        context = self._context()
        batches.warm_up(lambda data: self._predict_rows(data, context), self._example(), sizes)
        took = time.monotonic() - began
        log.say(f"batches of {', '.join(map(str, sizes))} rows are warm after {took:.2f} s")

    def _example(self) -> Any:
        """Return the example on the model's device, as a request's data would be."""
        example = self.handlers.example_input
        return defaults.on_device(example() if callable(example) else example, self.device)

    @property
    def batch(self) -> int:
        """Return how many requests may run as one: as the operator says, else the handlers."""
        predict = self.handlers.get("predict_fn")
        if self.handlers.is_app or self.handlers.get("transform_fn") is not None:
            return 1
        if predict is not None and predict.takes_context:
            return 1  # a context is about one request
        return self.settings.batch or self.handlers.batch

    def _call(self, name: str, *arguments: object) -> object:
        handler = self.handlers.get(name)
        return None if handler is None else handler(*arguments, context=self._context())

    def _context(self, **more: Any) -> Context:
        name = self.settings.model_name or "model"
        return Context(self.model_dir, self.device, self.slot, model_name=name, **more)

    # ── requests ──

    def answer(
        self, frames: Sequence[Frame], is_cancelled: Callable[[int], bool] = lambda _: False
    ) -> Iterator[list[Frame]]:
        """Yield replies as they become ready. Never raise for what requests or handlers do."""
        jobs = [Job(frame, self.context_of(frame)) for frame in frames]
        if len(jobs) == 1:
            jobs[0].run_all(self._stages)
        else:
            self._run_together(jobs)
        for job in jobs:
            if job.stream is None:
                self._settle(job)
            if self.row_check is not None:
                self.row_check.look(job)
        guard.check()
        whole = [job.reply for job in jobs if job.reply is not None]
        if whole:
            yield whole
        for job in jobs:
            if job.stream is not None:
                yield from self._streamed(job, is_cancelled)
        if self.redaction is not None:
            yield from self.redaction.frames(jobs)

    def _streamed(self, job: Job, is_cancelled: Callable[[int], bool]) -> Iterator[list[Frame]]:
        redaction = self.redaction
        if redaction is not None:
            is_cancelled = redaction.noting(is_cancelled)
        for frame in streams.frames_of(job, is_cancelled):
            yield [frame]
            if redaction is not None:
                redaction.watch(job, frame)
        self._settle(job)

    def _settle(self, job: Job) -> None:
        if job.session is not None:
            is_good = job.reply is None or "error" not in job.reply.meta
            self.sessions.settle(job.session, is_good=is_good)

    def context_of(self, frame: Frame) -> Context:
        meta = frame.meta
        return self._context(
            request_id=meta["request_id"],
            content_type=meta["content_type"],
            accept=meta["accept"],
            headers=dict(meta.get("headers", ())),  # theirs to change
            deadline=meta["deadline"],
        )

    def _decode(self, job: Job) -> None:
        if "route" in job.frame.meta:
            return  # the application decodes
        if "chat" in job.frame.meta:
            chat.decode(job)
            return
        if "adapter" in job.frame.meta:
            asked = job.frame.meta["adapter"]
            self.handlers.change_adapter(asked, self.model, self.adapters, job.context)
            job.succeed(media.JSON, b"{}")
            return
        context = job.context
        asked = job.frame.meta.get("session")
        if asked is not None:
            job.session = context.session = self.sessions.find(asked)
            if is_only_about_session(job, job.session):
                return
        # A body without a Content-Type is taken as bytes, as RFC 9110 (8.3) allows.
        parsed = media.parse(context.content_type or media.OCTETS)
        if parsed is None:
            raise UnsupportedType(
                f"Content-Type {context.content_type[:100]!r} is not a media type"
            )
        job.media_type = parsed
        job.accept = self._accept(context)
        data = job.frame.body.view()
        if self.handlers.get("transform_fn") is not None:
            job.data = forms.user_body(data, parsed, context)
        else:
            job.data = self._input(data, parsed, context)

    def _route(self, job: Job) -> None:
        """Answer a route of the user's own application."""
        assert self.handlers.app is not None
        request = wsgi.Request(**job.frame.meta["route"])
        body = bytes(job.frame.body.view()[:])
        _pass_on(job, self.handlers.app.begin(request, body, self.model))

    def _accept(self, context: Context) -> str:
        """Return the type to answer with, before the model runs, while the request can be
        refused."""
        default = self.settings.default_accept
        if self.handlers.get("output_fn") or self.handlers.get("transform_fn"):
            return media.preferred(context.accept, default)
        offered: tuple[str, ...] = defaults.SUPPORTED
        if self.handlers.get("predict_fn"):
            offered = (*offered, media.EVENT_STREAM)  # it may be a generator
        chosen = media.choose(context.accept, offered, default)
        if chosen is None:
            raise NotAcceptable(
                f"Accept {context.accept[:200]!r} matches none of {', '.join(offered)}"
            )
        return chosen

    def _input(self, data: Data, media_type: MediaType, context: Context) -> object:
        handler = self.handlers.get("input_fn")
        if handler is not None:
            return handler(*forms.user_body(data, media_type, context), context=context)
        if self.wanted.anything:
            raw = forms.raw(data, media_type)
            if raw is not None:
                return raw
        header = self.settings.csv_header
        return defaults.default_input(data, media_type, context, header, self.wanted)

    # ── the model ──

    def _run_together(self, jobs: list[Job]) -> None:
        for job in jobs:
            job.run("decode", self._decode)
        self._predict_all([job for job in jobs if job.reply is None])
        for job in jobs:
            job.run("encode", self._encode)

    def _predict_all(self, jobs: list[Job]) -> None:
        """Run together what can run together, at most `batch` rows at once, and all else alone."""
        most = self.batch
        alone = [[job] for job in jobs]  # used if input_fn's results can't be compared
        for group in guard.value_of(lambda: _groups(jobs, most), alone):
            self._predict_group(group)

    def _predict_group(self, group: list[Job]) -> None:
        """Run a group as one batch; if that fails, each alone, so that a bad request fails by
        itself."""
        if len(group) > 1 and self._predict_batch(group):
            return
        for job in group:
            job.run("predict", self._predict)

    def _predict_batch(self, group: list[Job]) -> bool:
        began = time.perf_counter()
        parts: list[Any] = []

        def predict() -> None:
            joined = batches.join([job.data for job in group])
            result = self._call_model(joined, group[0].context)
            if self.handlers.get("output_fn") is None:
                result = values.plain(result)  # off the device once, and not row by row
            parts.extend(batches.split(result, [batches.rows_of(job.data) for job in group]))

        if guard.attempt(predict) is not None:  # the request that caused it fails again, alone
            return False
        took = time.perf_counter() - began
        for job, part in zip(group, parts, strict=True):
            job.prediction, job.batch, job.times["predict"] = part, len(group), took
        return True

    def _predict(self, job: Job) -> None:
        deadline = job.frame.meta["deadline"]
        if deadline and deadline <= time.monotonic():
            raise Overdue("The deadline passed while it was waiting for its turn in a batch")
        if "route" in job.frame.meta:
            self._route(job)
            return
        transform = self.handlers.get("transform_fn")
        talk = self.handlers.get("chat_fn") if "chat" in job.frame.meta else None
        if talk is not None:
            job.prediction = talk(job.data, self.model, context=job.context)
        elif transform is None:
            job.prediction = self._call_model(job.data, job.context)
        else:
            arguments = (self.model, *job.data, job.accept)
            job.prediction = transform(*arguments, context=job.context)

    def _call_model(self, data: object, context: Context) -> object:
        sizes = self.handlers.buckets
        if not sizes:
            return self._predict_rows(data, context)
        return batches.run(lambda rows: self._predict_rows(rows, context), data, sizes)

    def _predict_rows(self, data: object, context: Context) -> object:
        handler = self.handlers.get("predict_fn")
        if handler is None:
            assert self.predictor is not None
            return self.predictor(data)
        return handler(data, self.model, context=context)

    # ── the reply ──

    def _encode(self, job: Job) -> None:
        if "route" in job.frame.meta:
            return
        if "chat" in job.frame.meta:
            chat.encode(job)
            return
        result = job.prediction
        handler = self.handlers.get("output_fn")
        if handler is not None:
            result = handler(result, job.accept, context=job.context)
        is_default = handler is None and self.handlers.get("transform_fn") is None
        response = apps.response_of(result)
        if response is not None:
            request = apps.plain_request("POST", http.INVOCATIONS.value, job.context.content_type)
            _pass_on(job, response.begin(request, b"", self.model))
            return
        pair = forms.pair(result, is_default=is_default)
        if pair is not None:
            result, content_type = pair
            job.context.reply_content_type = job.context.reply_content_type or content_type
        if not isinstance(result, Iterator) and is_default and job.accept == media.EVENT_STREAM:
            result = iter([result])  # one event
        if isinstance(result, Iterator):
            job.stream = result
            return
        job.succeed(*forms.reply(result, job, is_default=is_default))


def _pass_on(job: Job, reply: wsgi.Reply) -> None:
    """Pass on an application's reply as it is; one without a length as a stream."""
    with contextlib.ExitStack() as failed:
        failed.callback(reply.pieces.close)
        types = [value for name, value in reply.headers if name.lower() == "content-type"]
        content_type = exact_header("Content-Type", types[-1]) if types else media.OCTETS
        job.headers = exact_pairs(
            (name, value) for name, value in reply.headers if name.lower() not in OWN_HEADERS
        )
        job.context.reply_status = reply.status
        job.context.reply_content_type = content_type
        if reply.is_whole:
            job.succeed(content_type, b"".join(reply.pieces))
        else:
            job.accept, job.stream = "", reply.pieces
        failed.pop_all()


def _groups(jobs: list[Job], most: int) -> list[list[Job]]:
    """Return groups of jobs whose data can be joined, with at most `most` rows each."""
    groups: dict[Hashable, list[Job]] = {}
    for job in jobs:
        key = batches.key_of(job.data)
        groups.setdefault(id(job) if key is None else key, []).append(job)
    return [
        part
        for group in groups.values()
        for part in batches.portions(group, most, lambda job: batches.rows_of(job.data))
    ]


def _device() -> str:
    return "cpu" if values.torch_if_loaded() is None else default_model.device()
