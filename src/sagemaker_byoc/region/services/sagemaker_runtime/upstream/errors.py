"""What can go wrong between the region and a container's port.

UpstreamError             with a text for the caller
├── UnreachableError      no connection: nothing listens, or not to us
├── BusyError             as many connections as one container gets are in use
├── BrokenError           the connection ended before the answer did
├── MalformedError        what came back is not HTTP, or its head has no end
├── OverdueError          the time for the whole answer is over
└── OversizeError         the body is over the limit
"""

from __future__ import annotations


class UpstreamError(Exception):
    """An exchange that gave no whole answer; its connection is gone."""


class UnreachableError(UpstreamError):
    pass


class BusyError(UpstreamError):
    pass


class BrokenError(UpstreamError):
    pass


class MalformedError(UpstreamError):
    pass


class OverdueError(UpstreamError):
    pass


class OversizeError(UpstreamError):
    pass
