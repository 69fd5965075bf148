"""The network that carries the gradients: its interface, its transport, and variables for NCCL.

It is found from files; nothing is started or imported. The variables are defaults, which the user's
own override, and there are few: today NCCL needs almost none.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

INTERFACE_VARIABLES = ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME")
AMAZON = "0x1d0f"
PLUGINS = ("libnccl-net.so", "libnccl-net-ofi.so")
PLUGIN_FOLDERS = (
    "opt/amazon/ofi-nccl/lib",
    "opt/amazon/ofi-nccl/lib64",
    "opt/amazon/ofi-nccl/lib/x86_64-linux-gnu",
    "opt/aws-ofi-nccl/lib",
    "usr/local/lib",
    "usr/lib/x86_64-linux-gnu",
)
PLUGIN_VERSION = re.compile(rb"aws-ofi-nccl (?:git-)?v?(\d+)\.(\d+)\.\d+")
# docs/decisions/0007: aws-ofi-nccl before 1.6 does not choose these by itself.
OLD_PLUGIN = {"FI_PROVIDER": "efa", "NCCL_PROTO": "simple"}
NEW_PLUGIN = {"FI_EFA_USE_HUGE_PAGE": "0"}  # huge pages and os.fork exhaust memory together
FIRST_NEW_PLUGIN = (1, 6)


@dataclass(frozen=True, slots=True)
class Network:
    variables: Mapping[str, str] = field(default_factory=dict)
    """Defaults for the ranks."""
    transport: str = ""
    """One line: what is expected to carry the traffic."""
    warning: str = ""


def look_at_network(
    interface: str,
    *,
    hosts: int,
    gpus: int,
    environ: Mapping[str, str],
    root: Path = Path("/"),
) -> Network:
    variables = _interface_variables(interface, root) if hosts > 1 else {}
    if hosts == 1:
        return Network(variables, _inside_a_host(gpus, root))
    if not gpus:
        return Network(variables, "TCP (gloo): no GPUs")
    nccl = _nccl_version(sys.path)
    has_verbs = any((root / "dev/infiniband").glob("uverbs[0-9]*"))
    devices = _efa_devices(root) if has_verbs else 0
    if has_verbs and not devices:
        return Network(variables, f"InfiniBand or RoCE ({nccl})")
    if not devices:
        return Network(
            variables,
            f"TCP ({nccl})",
            "several GPU hosts and no EFA device: gradients go over TCP, which is many times "
            "slower; instance types such as p4d, p5 and g6e.8xlarge and above have EFA",
        )
    plugin = _find_plugin(environ, root)
    if plugin is None:
        return Network(
            variables,
            f"TCP ({nccl})",
            f"{devices} EFA devices, but the image has no aws-ofi-nccl plugin: NCCL will use TCP; "
            "install the EFA userland and the plugin in the image",
        )
    version = _plugin_version(plugin)
    shown = ".".join(map(str, version)) if version else "of unknown version"
    return Network(
        {**variables, **_plugin_variables(version)},
        f"EFA ({devices} devices, aws-ofi-nccl {shown}, {nccl})",
    )


def has_interface(name: str, root: Path = Path("/")) -> bool:
    return bool(name) and "/" not in name and (root / "sys/class/net" / name).exists()


def _find_plugin(environ: Mapping[str, str], root: Path) -> Path | None:
    searched = [folder for folder in environ.get("LD_LIBRARY_PATH", "").split(":") if folder]
    for folder in (*map(Path, searched), *(root / folder for folder in PLUGIN_FOLDERS)):
        for name in PLUGINS:
            if (folder / name).is_file():
                return folder / name
    return None


def _plugin_version(plugin: Path) -> tuple[int, int] | None:
    """Return the version in the text that the plugin prints when NCCL loads it."""
    try:
        found = PLUGIN_VERSION.search(plugin.read_bytes())
    except OSError:
        return None
    return (int(found[1]), int(found[2])) if found else None


def _plugin_variables(version: tuple[int, int] | None) -> Mapping[str, str]:
    if version is None:
        return {}
    return NEW_PLUGIN if version >= FIRST_NEW_PLUGIN else OLD_PLUGIN


def _interface_variables(interface: str, root: Path) -> dict[str, str]:
    """Return variables for the interface; none if it does not exist: NCCL then chooses one.

    Local tools write `ethwe`, which often does not exist.
    """
    if not has_interface(interface, root):
        return {}
    return dict.fromkeys(INTERFACE_VARIABLES, interface)


def _inside_a_host(gpus: int, root: Path) -> str:
    if gpus < 2:
        return "shared memory" if not gpus else "one GPU"
    has_switch = any((root / "dev").glob("nvidia-nvswitch[0-9]*"))
    return "NVLink (NVSwitch)" if has_switch else "NVLink or PCIe, as the GPUs are connected"


def _efa_devices(root: Path) -> int:
    """Return the number of Amazon's verbs devices; others (InfiniBand, RoCE) need no plugin."""
    count = 0
    for device in (root / "sys/class/infiniband").glob("*"):
        with suppress(OSError):
            count += (device / "device/vendor").read_text().strip() == AMAZON
    return count


def _nccl_version(packages: Sequence[str]) -> str:
    for folder in packages:
        for found in Path(folder).glob("nvidia_nccl_cu*.dist-info"):
            return f"NCCL {found.name.removesuffix('.dist-info').rpartition('-')[2]}"
    return "no NCCL found"
