"""The program `byoc`: signals and streams first, so that Ctrl-C while modules load is quiet."""

# The only work at import: `signal` itself, like all that follows, takes milliseconds to load.
import _signal  # type: ignore[import-not-found] # of CPython, without a stub

if _signal.getsignal(_signal.SIGINT) is not _signal.SIG_IGN:  # as a shell's background job has it
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # nothing has been started yet

import os
import sys


def main() -> int:
    _open_streams()
    from sagemaker_byoc.cli.main import main as run  # noqa: PLC0415 - after the streams

    return run()


def _open_streams() -> None:
    """Open standard streams that are missing, and make them print any character in some way."""
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
