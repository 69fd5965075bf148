"""`serve --check [SAMPLE]`: load, warm up, answer a sample and report the result. No HTTP.

`python -m sagemaker_byoc.serving.worker.check SETTINGS [SAMPLE]`, in a worker's environment.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from sagemaker_byoc.contract.lifecycle import ExitCode
from sagemaker_byoc.serving import log, media
from sagemaker_byoc.serving.bodies import Body
from sagemaker_byoc.serving.capture.options import is_opaque, useless
from sagemaker_byoc.serving.link import Frame, Kind
from sagemaker_byoc.serving.settings import Settings, find_handlers
from sagemaker_byoc.serving.worker.code import guard, handlers
from sagemaker_byoc.serving.worker.loop import plainly
from sagemaker_byoc.serving.worker.pipeline import Pipeline

TYPES = {".json": media.JSON, ".jsonl": media.JSON_LINES, ".csv": media.CSV, ".npy": media.NPY}
SHOWN = 300
"""Bytes of the reply to show."""


def main(arguments: list[str]) -> int:
    """Run the check; return exit code 0 if everything worked."""
    settings, *samples = arguments
    sys.dont_write_bytecode = True
    sys.argv = ["serve"]
    loaded: list[Pipeline] = []
    failure = guard.attempt(lambda: loaded.append(_load(Settings.from_json(settings))))
    if failure is not None:
        log.say(failure.report or failure.message)
        log.say("check: the model can't be loaded")
        return ExitCode.MODEL_FAILED
    return max((_answer(loaded[0], Path(sample)) for sample in samples), default=ExitCode.OK)


def _load(settings: Settings) -> Pipeline:
    began = time.monotonic()
    with plainly():
        pipeline = Pipeline(settings, handlers.load(find_handlers(settings)), 0)
        log.say(f"check: handlers: {pipeline.handlers.table()}")
        pipeline.load()
    took = time.monotonic() - began
    log.say(f"check: loaded and warmed in {took:.2f} s on {pipeline.device}: {pipeline.source}")
    return pipeline


def _answer(pipeline: Pipeline, sample: Path) -> int:
    content_type = TYPES.get(sample.suffix, media.OCTETS)
    try:
        data = sample.read_bytes()
    except OSError as problem:
        log.say(f"check: {sample} can't be read: {problem.strerror}")
        return ExitCode.BAD_INPUT
    meta = {"request_id": "check", "content_type": content_type, "accept": "", "deadline": 0}
    began = time.monotonic()
    (first, *_), *_ = pipeline.answer([Frame(Kind.REQUEST, 1, meta, Body.of(data))])
    took = 1000 * (time.monotonic() - began)
    error = first.meta.get("error")
    if error is not None:
        log.say(f"check: {sample} as {content_type}: {error['status']} {error['message']}")
        return ExitCode.MODEL_FAILED
    capture = pipeline.settings.capture
    if capture is not None and is_opaque(capture, str(first.meta["content_type"])):
        log.say(useless("replies", str(first.meta["content_type"])))
    shown = bytes(first.body.view()[:SHOWN])
    log.say(
        f"check: {sample} as {content_type}: {first.meta['content_type']}, "
        f"{first.body.size} bytes in {took:.1f} ms: {shown!r}"
    )
    return ExitCode.OK


if __name__ == "__main__":
    guard.run(main, sys.argv[1:])
