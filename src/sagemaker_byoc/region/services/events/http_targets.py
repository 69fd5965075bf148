"""HTTP targets of rules: a URL that the owner of the region names, or an API destination.

No redirect is followed and no proxy is used. A target has 5 s to answer, as API destinations have
in the cloud.
"""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from sagemaker_byoc.region.core import bounded_http
from sagemaker_byoc.region.services.events.deliveries import DeliveryError
from sagemaker_byoc.region.wire.operations import Parameters

SECONDS = 5.0
_AGAIN = frozenset({401, 407, 408, 409, 429})
"""Statuses after which a delivery is tried again, beside those of 500 and above [user guide]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCall:
    """A request to a target, but for its body."""

    method: str = "POST"
    url: str
    headers: Mapping[str, str]

    def send(self, body: str) -> None:
        """Raise DeliveryError unless the target answers with a status of 200 to 299.

        It does not name the query, which may have a secret of the connection.
        """
        what = f"{self.method} {self.url.partition('?')[0]}"
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "Amazon/EventBridge/ApiDestinations",
            **self.headers,
        }
        try:
            status = bounded_http.send(
                self.method, self.url, body.encode(), headers, seconds=SECONDS
            )
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise DeliveryError(f"{what} failed ({error!r})") from error
        if not 200 <= status < 300:
            is_final = status < 500 and status not in _AGAIN
            raise DeliveryError(f"{what} answered {status}", is_final=is_final)


def url_call(url: str, parameters: Parameters) -> HttpCall:
    """Return the call of a target whose ARN is a URL."""
    return _call("POST", url, parameters, {}, {})


def destination_call(
    destination: Parameters, connection: Parameters, parameters: Parameters
) -> HttpCall:
    """Return the call of an API destination.

    Raise DeliveryError if there are fewer path parameters than asterisks in its endpoint.
    """
    auth = connection["AuthParameters"]
    common = auth.get("InvocationHttpParameters", {})
    headers = {**_pairs(common.get("HeaderParameters", ())), **_credentials(auth)}
    query = _pairs(common.get("QueryStringParameters", ()))
    url: str = destination["InvocationEndpoint"]
    values = parameters.get("PathParameterValues", [])
    pieces = url.split("*")
    if len(pieces) - 1 > len(values):
        raise DeliveryError(f"{url} has more asterisks than PathParameterValues", is_final=True)
    filled = pieces[0] + "".join(
        quote(value, safe="") + piece for value, piece in zip(values, pieces[1:], strict=False)
    )
    return _call(destination["HttpMethod"], filled, parameters, headers, query)


def with_body_parameters(body: str, connection: Parameters) -> str:
    """Return the body with the connection's BodyParameters, if it is a JSON object."""
    common = connection["AuthParameters"].get("InvocationHttpParameters", {})
    added = _pairs(common.get("BodyParameters", ()))
    if not added:
        return body
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return body
    return json.dumps({**document, **added}) if isinstance(document, dict) else body


def _call(
    method: str,
    url: str,
    parameters: Parameters,
    headers: Mapping[str, str],
    query: Mapping[str, str],
) -> HttpCall:
    """The connection's parameters win over those of the target [user guide]."""
    query = {**parameters.get("QueryStringParameters", {}), **query}
    if query:
        url += ("&" if "?" in url else "?") + urlencode(query)
    merged = {**parameters.get("HeaderParameters", {}), **headers}
    return HttpCall(method=method, url=url, headers=merged)


def _pairs(parameters: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    return {each.get("Key", ""): each.get("Value", "") for each in parameters}


def _credentials(auth: Parameters) -> dict[str, str]:
    if "ApiKeyAuthParameters" in auth:
        key = auth["ApiKeyAuthParameters"]
        return {key["ApiKeyName"]: key["ApiKeyValue"]}
    if "BasicAuthParameters" in auth:
        pair = auth["BasicAuthParameters"]
        text = f"{pair['Username']}:{pair['Password']}"
        return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}
    return {}
