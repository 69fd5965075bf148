"""resourceconfig.json: the hosts of a job, their groups, and how they are connected.

Shape: developer guide, your-algorithms-training-algo-running-container, and listings of real jobs.
Traps: `hosts` is sorted as text (algo-10 before algo-2); the hosts inside a group are in no order;
local tools write no groups; `network_interface_name` may name an interface that does not exist.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sagemaker_byoc.contract.errors import DocumentError
from sagemaker_byoc.contract.files import Json, read_object, write_json
from sagemaker_byoc.contract.paths import Tree

HOMOGENEOUS_GROUP = "homogeneousCluster"
"""The name SageMaker gives the one group of a job that asked for none."""
DEFAULT_HOST = "algo-1"
DEFAULT_INTERFACE = "eth0"
LOCAL_INSTANCE_TYPE = "local"


def natural_order(host: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key under which algo-2 comes before algo-10."""
    parts = re.findall(r"[0-9]+|[^0-9]+", host)
    return tuple((1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts)


@dataclass(frozen=True, slots=True)
class InstanceGroup:
    name: str
    instance_type: str
    hosts: tuple[str, ...]

    def document(self) -> dict[str, Json]:
        return {
            "instance_group_name": self.name,
            "instance_type": self.instance_type,
            "hosts": [*self.hosts],
        }


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster as one of its hosts sees it; hosts in natural order."""

    current_host: str = DEFAULT_HOST
    hosts: tuple[str, ...] = (DEFAULT_HOST,)
    current_instance_type: str = LOCAL_INSTANCE_TYPE
    current_group: str = HOMOGENEOUS_GROUP
    groups: tuple[InstanceGroup, ...] = ()
    network_interface: str = DEFAULT_INTERFACE
    topology: Mapping[str, str] = field(default_factory=dict)
    """Host to capacity unit; only if the platform gave one (GB200 UltraServers)."""

    @classmethod
    def read(cls, tree: Tree) -> Cluster:
        """Return the tree's cluster; one of a single host if there is no file.

        What a file written by hand leaves out is derived from the rest.
        """
        path = tree.resource_config_file
        document = read_object(path)
        if document is None:
            return cls()
        where = str(path)
        named = _texts(document, "hosts", where)
        current = _text(document, "current_host", where, _own_name(named))
        hosts = tuple(sorted(set(named or (current,)), key=natural_order))
        if current not in hosts:
            raise DocumentError(
                where=f"{where}: current_host",
                what=f"is {current!r}, which is not among hosts {list(hosts)}",
                hint="Name this container's own host",
            )
        groups = _groups(document, where, hosts)
        own_group = next((g.name for g in groups if current in g.hosts), HOMOGENEOUS_GROUP)
        return cls(
            current_host=current,
            hosts=hosts,
            current_instance_type=_text(
                document, "current_instance_type", where, LOCAL_INSTANCE_TYPE
            ),
            current_group=_text(document, "current_group_name", where, own_group),
            groups=groups,
            network_interface=_text(document, "network_interface_name", where, DEFAULT_INTERFACE),
            topology=_topology(document),
        )

    def write(self, tree: Tree) -> None:
        write_json(tree.resource_config_file, self.document())

    def document(self) -> dict[str, Json]:
        """The file's JSON: `hosts` sorted as text, as SageMaker does."""
        document: dict[str, Json] = {
            "current_host": self.current_host,
            "current_instance_type": self.current_instance_type,
            "current_group_name": self.current_group,
            "hosts": [*sorted(self.hosts)],
            "instance_groups": [group.document() for group in self.all_groups],
            "network_interface_name": self.network_interface,
        }
        if self.topology:
            document["topology"] = [
                {"hostName": host, "capacityUnitId": unit} for host, unit in self.topology.items()
            ]
        return document

    @property
    def all_groups(self) -> tuple[InstanceGroup, ...]:
        """Return the groups; if the file has none, the one that SageMaker would have written."""
        return self.groups or (
            InstanceGroup(self.current_group, self.current_instance_type, self.hosts),
        )

    @property
    def current_group_hosts(self) -> tuple[str, ...]:
        for group in self.all_groups:
            if group.name == self.current_group:
                return group.hosts
        return (self.current_host,)

    @property
    def is_heterogeneous(self) -> bool:
        return len(self.all_groups) > 1

    @property
    def rank(self) -> int:
        """Return this host's place, from 0, among all hosts in natural order."""
        return self.hosts.index(self.current_host)


def _text(document: Mapping[str, Json], key: str, where: str, default: str) -> str:
    value = document.get(key)
    if value is None:
        return default
    if not isinstance(value, str):
        raise DocumentError(
            where=f"{where}: {key}", what=f"has value {value!r}", hint="Write a string"
        )
    return value


def _texts(document: Mapping[str, Json], key: str, where: str) -> tuple[str, ...]:
    value = document.get(key)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise DocumentError(
            where=f"{where}: {key}", what=f"has value {value!r}", hint="Write a list of strings"
        )
    return tuple(str(item) for item in value)


def _own_name(hosts: Sequence[str]) -> str:
    """Return which of `hosts` this container is, if the file does not name it."""
    if len(hosts) == 1:
        return hosts[0]
    return next((host for host in hosts if host == os.uname().nodename), DEFAULT_HOST)


def _groups(
    document: Mapping[str, Json], where: str, hosts: tuple[str, ...]
) -> tuple[InstanceGroup, ...]:
    entries = document.get("instance_groups") or []
    place = f"{where}: instance_groups"
    if not isinstance(entries, list):
        raise DocumentError(where=place, what=f"has value {entries!r}", hint="Write a list")
    groups = []
    for entry in entries:
        if not isinstance(entry, dict):
            raise DocumentError(
                where=place, what=f"holds {entry!r}", hint="Write an object for each group"
            )
        groups.append(
            InstanceGroup(
                name=_text(entry, "instance_group_name", place, HOMOGENEOUS_GROUP),
                instance_type=_text(entry, "instance_type", place, LOCAL_INSTANCE_TYPE),
                # The only group has all hosts.
                hosts=tuple(sorted(set(_texts(entry, "hosts", place)), key=natural_order))
                or (hosts if len(entries) == 1 else ()),
            )
        )
    return tuple(groups)


def _topology(document: Mapping[str, Json]) -> dict[str, str]:
    """Return the topology. Be tolerant: a shape that is not public must never end a job."""
    entries = document.get("topology")
    if not isinstance(entries, list):
        return {}
    units: dict[str, str] = {}
    for entry in entries:
        if isinstance(entry, dict):
            host, unit = entry.get("hostName"), entry.get("capacityUnitId")
            if isinstance(host, str) and isinstance(unit, str):
                units[host] = unit
    return units
