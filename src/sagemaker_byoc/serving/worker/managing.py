"""Requests that are not for the model: adapters come and go, sessions open and close."""

from __future__ import annotations

from typing import Any

import orjson

from sagemaker_byoc.contract.hosting import http
from sagemaker_byoc.serving import media
from sagemaker_byoc.serving.worker.code.handlers import Handlers
from sagemaker_byoc.serving.worker.jobs import Job
from sagemaker_byoc.serving.worker.sessions import Session

REQUEST_TYPE_SIZE = 200


def change_adapter(job: Job, handlers: Handlers, model: Any, loaded: dict[str, str]) -> None:
    """Load, load anew from elsewhere, or unload; `loaded` has folders by name."""
    asked = job.frame.meta["adapter"]
    name, folder = asked["name"], asked["folder"]
    unload, load = handlers.get("unload_adapter_fn"), handlers.get("load_adapter_fn")
    if loaded.pop(name, None) is not None and unload is not None:
        unload(model, name, context=job.context)
    if asked["what"] == "load":
        assert load is not None
        load(model, name, folder, context=job.context)
        loaded[name] = folder
    job.succeed(media.JSON, b"{}")


def is_only_about_session(job: Job, session: Session) -> bool:
    """Answer a body that opens or closes and says nothing else, as clients of AWS's own containers
    send it; such a one is not for the handlers."""
    if job.frame.body.size > REQUEST_TYPE_SIZE:
        return False
    try:
        asked = orjson.loads(bytes(job.frame.body.view()[:]))
    except orjson.JSONDecodeError:
        return False
    if asked == {"requestType": "CLOSE"}:
        session.close()
    elif asked != {"requestType": http.NEW_SESSION.value} or not session.is_new:
        return False
    job.succeed(media.JSON, orjson.dumps({"sessionId": session.id}))
    return True
