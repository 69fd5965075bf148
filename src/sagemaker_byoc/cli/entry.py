"""The program `byoc`: streams and signals first, so that Ctrl-C while modules load is quiet."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

_INTERRUPTED = 130


def main() -> int:
    signal.signal(signal.SIGINT, _leave)  # nothing has been begun
    _open_streams()
    from sagemaker_byoc.cli.main import main as run  # noqa: PLC0415 - after the handler

    return run()


def _leave(_number: int, _frame: FrameType | None) -> None:
    os._exit(_INTERRUPTED)


def _open_streams() -> None:
    """Standard streams always exist, and print any character in some way."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:  # closed by the caller
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr] # the interpreter's own


if __name__ == "__main__":
    raise SystemExit(main())
