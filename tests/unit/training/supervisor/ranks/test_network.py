"""Which transport is expected, and that nothing is set that the user or NCCL would set better."""

from __future__ import annotations

import threading

import pytest

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.training.supervisor.plan import cache_variables
from sagemaker_byoc.training.supervisor.ranks.hosts import wait_for_hosts
from sagemaker_byoc.training.supervisor.ranks.network import look_at_network


@pytest.fixture
def look(tmp_path):
    """The network of a machine with some files."""

    def made(*, hosts=2, gpus=8, interface="eth0", efa=0, **files):
        (tmp_path / "sys/class/net/eth0").mkdir(parents=True, exist_ok=True)
        for number in range(efa):
            device = tmp_path / f"sys/class/infiniband/rdmap{number}/device"
            device.mkdir(parents=True)
            (device / "vendor").write_text("0x1d0f\n")
            (tmp_path / "dev/infiniband").mkdir(parents=True, exist_ok=True)
            (tmp_path / f"dev/infiniband/uverbs{number}").touch()
        for number in range(files.get("switches", 0)):
            (tmp_path / "dev").mkdir(exist_ok=True)
            (tmp_path / f"dev/nvidia-nvswitch{number}").touch()
        if plugin := files.get("plugin"):
            folder = tmp_path / "opt/amazon/ofi-nccl/lib"
            folder.mkdir(parents=True)
            (folder / "libnccl-net.so").write_bytes(b"\0ELF\0" + plugin + b"\0")
        return look_at_network(
            interface, hosts=hosts, gpus=gpus, environ=files.get("environ", {}), root=tmp_path
        )

    return made


def test_interface_that_exists(look):
    """NCCL and gloo get the interface of resourceconfig.json."""
    assert look(gpus=0).variables == {"NCCL_SOCKET_IFNAME": "eth0", "GLOO_SOCKET_IFNAME": "eth0"}


@pytest.mark.parametrize("interface", ["ethwe", "", "../eth0"])
def test_interface_that_does_not_exist(look, interface):
    """Local tools name one that is not there: NCCL then chooses."""
    assert look(interface=interface, gpus=0).variables == {}


def test_one_host(look):
    """On one host nothing is set at all."""
    found = look(hosts=1, switches=2)
    assert (dict(found.variables), found.transport) == ({}, "NVLink (NVSwitch)")
    assert look(hosts=1, gpus=0).transport == "shared memory"


def test_tcp_is_warned_of(look):
    """Several GPU hosts without EFA are slow, and the log says so."""
    found = look()
    assert found.transport.startswith("TCP")
    assert "no EFA device" in found.warning


def test_efa_without_plugin(look):
    """The devices alone carry nothing."""
    found = look(efa=4)
    assert found.transport.startswith("TCP")
    assert "no aws-ofi-nccl plugin" in found.warning


@pytest.mark.parametrize(
    ("plugin", "set_too", "shown"),
    [
        (b"Initializing aws-ofi-nccl 1.5.0", {"FI_PROVIDER": "efa", "NCCL_PROTO": "simple"}, "1.5"),
        (b"NET/OFI Initializing aws-ofi-nccl 1.14.2-aws", {"FI_EFA_USE_HUGE_PAGE": "0"}, "1.14"),
        (b"no version here", {}, "of unknown version"),
    ],
)  # fmt: skip
def test_efa(look, plugin, set_too, shown):
    """Only what the plugin's version does not do by itself is set."""
    found = look(efa=4, plugin=plugin)
    names = {"NCCL_SOCKET_IFNAME": "eth0", "GLOO_SOCKET_IFNAME": "eth0"}
    assert found.variables == {**names, **set_too}
    assert found.transport.startswith(f"EFA (4 devices, aws-ofi-nccl {shown}")
    assert not found.warning


def test_plugin_on_the_library_path(look, tmp_path):
    """A plugin in the folder that the loader searches first is found."""
    (tmp_path / "libnccl-net.so").write_bytes(b"aws-ofi-nccl 1.9.1")
    assert "1.9" in look(efa=1, environ={"LD_LIBRARY_PATH": f"/x:{tmp_path}"}).transport


def test_cache_variables():
    """Compile caches are in the warm pool, if there is one."""
    assert cache_variables({}) == {}
    pool = cache_variables({"SAGEMAKER_MANAGED_WARMPOOL_CACHE_DIRECTORY": "/pool"})
    assert pool == {"TORCHINDUCTOR_CACHE_DIR": "/pool/torchinductor",
                    "TRITON_CACHE_DIR": "/pool/triton"}  # fmt: skip


def test_late_name():
    """A name that does not resolve at first is tried again."""
    tries = []

    def resolve(host):
        tries.append(host)
        if tries.count(host) < 2:
            raise OSError
        return f"address of {host}"

    found = wait_for_hosts(["a", "b"], 5, is_stopped=lambda: False, resolve=resolve)
    assert found == {"a": "address of a", "b": "address of b"}


def test_a_lookup_that_blocks_is_not_waited_for():
    """As Docker's own DNS does for 10 s, if the other host starts a moment later."""
    asked, end = [], threading.Event()

    def resolve(host):
        asked.append(host)
        if len(asked) == 1:
            end.wait(30)
            raise OSError
        return host

    try:
        found = wait_for_hosts(["algo-2"], 20, is_stopped=lambda: False, resolve=resolve)
        assert found == {"algo-2": "algo-2"}
        assert not end.is_set()
    finally:
        end.set()


def test_missing_names():
    """All that are missing are named, after one deadline for all."""

    def resolve(host):
        if host == "algo-1":
            return host
        raise OSError

    hosts = ["algo-1", "algo-2", "algo-3"]
    with pytest.raises(ContractError, match="host algo-2, algo-3: did not resolve"):
        wait_for_hosts(hosts, 0.2, is_stopped=lambda: False, resolve=resolve)


def test_stop_ends_the_wait():
    """A stopped job does not wait for a name."""

    def resolve(host):
        raise OSError

    assert wait_for_hosts(["a"], 60, is_stopped=lambda: True, resolve=resolve) == {}
