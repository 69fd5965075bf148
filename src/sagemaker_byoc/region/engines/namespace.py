"""Run a command in a mount namespace that shows a host folder as /opt/ml.

    unshare --mount … python -I -m sagemaker_byoc.region.engines.namespace ROOT [WORD …] -- CMD …

A WORD is DST=SRC (SRC is shown, read-only, at DST: relative to /opt/ml, or absolute),
@folder=DST=SRC (SRC is shown, writable, at DST, which is absolute),
@hostname=NAME (in its own UTS namespace) or @loopback (in its own network namespace,
whose `lo` is switched on).

Runs inside the new namespace, mounts, and becomes the command: its pid and signals are the
caller's child's. Nothing of the mounts is seen outside, and nothing is left when it ends.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from sagemaker_byoc.contract.paths import DEFAULT_ROOT

# <sys/mount.h>
_MS_RDONLY = 1
_MS_REMOUNT = 32
_MS_BIND = 4096
_MS_REC = 16384
_MNT_DETACH = 2
# <linux/sockios.h>, <linux/if.h>
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1

CANNOT_MOUNT = 126
"""Exit code when the namespace can't be prepared: nothing has been run."""

HOSTNAME = "@hostname="
LOOPBACK = "@loopback"
WRITABLE = "@folder="


def mount(source: str, target: Path, flags: int, kind: str | None = None) -> None:
    """Call mount(2). Raise OSError with the target's name."""
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.mount(
        source.encode(), bytes(target), kind.encode() if kind else None, ctypes.c_ulong(flags), None
    )
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


def bind(source: Path, target: Path, *, read_only: bool = False) -> None:
    mount(str(source), target, _MS_BIND | _MS_REC)
    if read_only:
        # The kernel takes "read-only" only in a second step.
        mount(str(source), target, _MS_REMOUNT | _MS_BIND | _MS_RDONLY)


def make_mount_point(target: Path, scratch: Path) -> None:
    """Make `target` exist in this namespace only: its parent's contents, plus the new folder.

    The parent is covered by an empty tmpfs, on which everything it held is bound again; a new root
    is entered instead. `scratch` is a name for an empty folder, to be used meanwhile.
    """
    if target.is_dir():
        return
    parent = target.parent
    scratch.mkdir()
    if parent == parent.parent:
        mount("tmpfs", scratch, 0, "tmpfs")
        _show_again(parent, scratch)
        (scratch / target.name).mkdir()
        os.chroot(scratch)
        os.chdir("/")
        return
    mount(str(parent), scratch, _MS_BIND | _MS_REC)
    mount("tmpfs", parent, 0, "tmpfs")
    _show_again(scratch, parent)
    target.mkdir()
    ctypes.CDLL(None).umount2(bytes(scratch), _MNT_DETACH)
    scratch.rmdir()


def make_folder(target: Path, root: Path) -> None:
    """Make `target`, and what is above it, exist in this namespace only."""
    for number, folder in enumerate([*reversed(target.parents), target]):
        make_mount_point(folder, root.with_name(f"{root.name}.behind-{number}"))


def _show_again(source: Path, target: Path) -> None:
    for entry in source.iterdir():
        again = target / entry.name
        if entry.is_symlink():
            again.symlink_to(entry.readlink())
        elif entry.is_dir():
            again.mkdir()
            bind(entry, again)
        else:
            again.touch()
            bind(entry, again)


def switch_on_loopback() -> None:
    """Switch on `lo`, which is off in a new network namespace."""
    request = struct.pack("16sh14x", b"lo", _IFF_UP)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)


def prepare(root: Path, words: Sequence[str]) -> None:
    """Raise OSError."""
    make_mount_point(DEFAULT_ROOT, root / ".behind")
    bind(root, DEFAULT_ROOT)
    for word in words:
        if word.startswith(HOSTNAME):
            socket.sethostname(word.removeprefix(HOSTNAME))
        elif word == LOOPBACK:
            switch_on_loopback()
        elif word.startswith(WRITABLE):
            place, _, source = word.removeprefix(WRITABLE).partition("=")
            make_folder(Path(place), root)
            bind(Path(source), Path(place))
        else:
            place, _, source = word.partition("=")
            bind(Path(source), DEFAULT_ROOT / place, read_only=True)


def main(arguments: Sequence[str]) -> NoReturn:
    split = arguments.index("--")
    root, *words = arguments[:split]
    command = arguments[split + 1 :]
    try:
        prepare(Path(root), words)
    except OSError as error:
        sys.stderr.write(f"byoc: can't mount {error.filename or root}: {error.strerror}\n")
        raise SystemExit(CANNOT_MOUNT) from error
    try:
        os.execvp(command[0], list(command))  # noqa: S606 - to become the command is the point
    except OSError as error:
        sys.stderr.write(f"byoc: can't run {command[0]!r}: {error.strerror}\n")
        raise SystemExit(127 if isinstance(error, FileNotFoundError) else CANNOT_MOUNT) from error


if __name__ == "__main__":
    main(sys.argv[1:])
