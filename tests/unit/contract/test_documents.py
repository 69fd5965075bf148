"""The three documented JSON files: what is written is read back, and bad input is named."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagemaker_byoc.contract.errors import DocumentError
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.channels import (
    Channel,
    Distribution,
    InputMode,
    RecordWrapper,
    read_channels,
    write_channels,
)
from sagemaker_byoc.contract.training.cluster import Cluster, InstanceGroup, natural_order
from sagemaker_byoc.contract.training.hyperparameters import Hyperparameters, decode


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_every_file_may_be_absent(tree):
    """An empty /opt/ml is a job of one host without channels or hyperparameters."""
    assert Hyperparameters.read(tree).raw == {}
    assert read_channels(tree) == {}
    assert Cluster.read(tree) == Cluster()


TEXT = st.characters(exclude_categories=["Cs"], exclude_characters="\0")


@given(st.dictionaries(st.text(TEXT, max_size=20), st.text(TEXT, max_size=50), max_size=10))
def test_hyperparameters_round_trip(tmp_path_factory, raw):
    """The raw text survives, whatever characters it holds."""
    tree = Tree(tmp_path_factory.mktemp("ml"))
    Hyperparameters(raw).write(tree)
    assert Hyperparameters.read(tree).raw == raw


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("3", 3),
        ("0.001", 0.001),
        ("true", True),
        ('"adam"', "adam"),
        ("adam", "adam"),
        ("01234", "01234"),
        ("[1, 2]", [1, 2]),
        ("null", None),
        ("NaN", "NaN"),
        ("Infinity", "Infinity"),
        ("", ""),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_decodes_json_text_once(raw, value):
    """What is JSON becomes its value, everything else stays the text that it is."""
    assert decode(raw) == value


def test_reserved_hyperparameters_are_not_the_programs(tree):
    """The toolkit's own keys, and the tuner's, don't reach the program's arguments."""
    raw = {"lr": "1", "sagemaker_program": '"train.py"', "_tuning_objective_metric": "loss"}
    hyperparameters = Hyperparameters(raw)
    assert dict(hyperparameters.for_program()) == {"lr": "1"}
    assert hyperparameters.text("sagemaker_program") == "train.py"
    assert hyperparameters.text("sagemaker_region") is None
    empty = Hyperparameters({"sagemaker_program": "null", "sagemaker_region": '""'})
    assert (empty.text("sagemaker_program"), empty.text("sagemaker_region")) == (None, None)


def test_other_values_than_strings(tree):
    """A file written by hand may hold any JSON: its text is what the SDK would have sent."""
    document = {"epochs": 3, "lr": 0.5, "amp": True, "none": None, "xs": [1, "a"], "text": "3"}
    write(tree.hyperparameters_file, json.dumps(document))
    read = Hyperparameters.read(tree)
    assert read.decoded() == {**document, "text": 3}
    assert read.converted == ("epochs", "lr", "amp", "none", "xs")


@pytest.mark.parametrize(
    "text", ['{"a": "\\u0000"}', '{"a": "\\ud800"}', '{"a": "\\"\\\\u0000\\""}']
)
def test_characters_that_no_program_can_get(tree, text):
    """NUL and half of a surrogate pair are refused under the name of their hyperparameter."""
    write(tree.hyperparameters_file, text)
    with pytest.raises(DocumentError, match=r"json: 'a': holds a NUL"):
        Hyperparameters.read(tree)


@pytest.mark.parametrize(
    "raw",
    [
        {f"k{n}": "v" for n in range(101)},
        {"k" * 257: "v"},
        {"k": "v" * 2501},
    ],
    ids=["too many", "long name", "long value"],
)
def test_what_sagemaker_would_refuse_is_not_written(tree, raw):
    """Limits are met before anything is written."""
    with pytest.raises(DocumentError):
        Hyperparameters(raw).write(tree)
    assert not tree.hyperparameters_file.exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("\n", "is empty"),
        ("{", "line 1 column 2"),
        ('{"a": "1",\n "b" "2"}', "line 2 column 6"),
        ("[1]", "JSON list"),
        ('"x"', "JSON str"),
        ("\x00", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"a": "1", "a": "2"}', "the name 'a' twice"),
        ('{"b": {"a": 1, "a": 2}}', "the name 'a' twice"),
    ],
)
def test_broken_file_names_itself(tree, text, words):
    """A file that is no JSON object is named, whichever it is, and where it is wrong."""
    for path, read in (
        (tree.hyperparameters_file, Hyperparameters.read),
        (tree.input_data_config_file, read_channels),
        (tree.resource_config_file, Cluster.read),
    ):
        write(path, text)
        with pytest.raises(DocumentError, match=f"{path.name}.*{words}"):
            read(tree)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_mark(tree, encoding):
    """What an editor on Windows saves is read."""
    write(tree.hyperparameters_file, "")
    tree.hyperparameters_file.write_bytes('{"name": "\xe9"}'.encode(encoding))
    assert Hyperparameters.read(tree).raw == {"name": "\xe9"}


def test_channels_round_trip(tree):
    """Every mode, distribution and wrapper is read as it was written."""
    channels = {
        "train": Channel("train", content_type="text/csv"),
        "a.b-c": Channel("a.b-c", InputMode.FAST_FILE, Distribution.SHARDED),
        "pipe": Channel("pipe", InputMode.PIPE, record_wrapper=RecordWrapper.RECORD_IO),
    }
    write_channels(tree, channels)
    assert read_channels(tree) == channels
    document = json.loads(tree.input_data_config_file.read_text())
    assert "ContentType" not in document["pipe"]


def test_folders_are_channels_where_none_are_declared(tree):
    """`docker run` by hand needs no inputdataconfig.json; a manifest file is no channel."""
    tree.channel("train").mkdir(parents=True)
    write(tree.data / "train-manifest", "[]")
    (tree.data / "lost+found").mkdir()  # of a file system that was mounted there
    assert read_channels(tree) == {"train": Channel("train")}


def test_unknown_keys_are_ignored_and_absent_ones_have_defaults(tree):
    """The platform may add keys at any time."""
    write(tree.input_data_config_file, '{"train": {"NewIn2027": 1}, "test": null}')
    assert read_channels(tree) == {"train": Channel("train"), "test": Channel("test")}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"train": 1}', "'train'.*is a int"),
        ('{"train": {"TrainingInputMode": "Stream"}}', "TrainingInputMode.*'Stream'.*FastFile"),
        ('{"..": {}}', "not a legal channel name"),
        ('{"a/b": {}}', "not a legal channel name"),
    ],
)
def test_bad_channel_is_named(tree, text, words):
    """Key, value and the values that would do."""
    write(tree.input_data_config_file, text)
    with pytest.raises(DocumentError, match=words):
        read_channels(tree)


def test_cluster_of_a_real_job(tree):
    """Hosts come in natural order, also those of a group, which the platform does not sort."""
    write(
        tree.resource_config_file,
        json.dumps(
            {
                "current_host": "algo-2",
                "current_instance_type": "ml.g4dn.xlarge",
                "current_group_name": "homogeneousCluster",
                "hosts": ["algo-1", "algo-10", "algo-2"],
                "instance_groups": [
                    {
                        "instance_group_name": "homogeneousCluster",
                        "instance_type": "ml.g4dn.xlarge",
                        "hosts": ["algo-10", "algo-2", "algo-1"],
                    }
                ],
                "network_interface_name": "eth0",
                "topology": [{"hostName": "algo-1", "capacityUnitId": "u1"}, "odd", {}],
            }
        ),
    )
    cluster = Cluster.read(tree)
    assert cluster.hosts == ("algo-1", "algo-2", "algo-10")
    assert cluster.current_group_hosts == cluster.hosts
    assert cluster.rank == 1
    assert not cluster.is_heterogeneous
    assert cluster.topology == {"algo-1": "u1"}


def test_cluster_round_trip(tree):
    """What the local side writes is what the training side reads."""
    cluster = Cluster(
        current_host="algo-1",
        hosts=("algo-1", "algo-2", "algo-10"),
        current_instance_type="ml.p5.48xlarge",
        current_group="gpu",
        groups=(
            InstanceGroup("gpu", "ml.p5.48xlarge", ("algo-1", "algo-2")),
            InstanceGroup("cpu", "ml.m5.large", ("algo-10",)),
        ),
        topology={"algo-1": "u1"},
    )
    cluster.write(tree)
    assert Cluster.read(tree) == cluster
    document = json.loads(tree.resource_config_file.read_text())
    assert document["hosts"] == ["algo-1", "algo-10", "algo-2"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"current_host": 1}', "current_host.*value 1"),
        ('{"hosts": "algo-1"}', "hosts.*'algo-1'.*list of strings"),
        ('{"current_host": "algo-9", "hosts": ["algo-1"]}', "algo-9.*not among hosts"),
        ('{"current_host": "algo-1", "hosts": ["a", "b"]}', "algo-1.*not among hosts"),
        ('{"instance_groups": {}}', None),
        ('{"hosts": [], "instance_groups": null, "topology": 1}', None),
        ('{"instance_groups": [1]}', "instance_groups.*holds 1"),
    ],
)
def test_bad_cluster_is_named(tree, text, words):
    """An empty object of groups is as good as none; the rest is named."""
    write(tree.resource_config_file, text)
    if words is None:
        assert Cluster.read(tree) == Cluster()
        return
    with pytest.raises(DocumentError, match=words):
        Cluster.read(tree)


@pytest.mark.parametrize(
    ("document", "current", "hosts", "group"),
    [
        ({"hosts": ["node-a"]}, "node-a", ("node-a",), "homogeneousCluster"),
        ({"current_host": "x"}, "x", ("x",), "homogeneousCluster"),
        ({"hosts": ["algo-1", "algo-1"]}, "algo-1", ("algo-1",), "homogeneousCluster"),
        ({"instance_groups": [{"instance_group_name": "g"}]}, "algo-1", ("algo-1",), "g"),
        (
            {
                "hosts": ["algo-1", "b"],
                "instance_groups": [
                    {"instance_group_name": "g", "hosts": ["b"]},
                    {"instance_group_name": "h", "hosts": ["algo-1"]},
                ],
            },
            "algo-1",
            ("algo-1", "b"),
            "h",
        ),
    ],
)
def test_cluster_written_by_hand(tree, document, current, hosts, group):
    """What is left out follows from the rest."""
    write(tree.resource_config_file, json.dumps(document))
    cluster = Cluster.read(tree)
    assert (cluster.current_host, cluster.hosts, cluster.current_group) == (current, hosts, group)
    assert current in cluster.current_group_hosts


def test_this_container_is_the_host_of_its_name(tree):
    """A file without current_host, the same for all hosts, will do where names are the hosts'."""
    write(tree.resource_config_file, json.dumps({"hosts": ["algo-1", os.uname().nodename]}))
    assert Cluster.read(tree).current_host == os.uname().nodename


@given(st.lists(st.integers(1, 200), unique=True))
def test_natural_order_is_by_number(numbers):
    """algo-2 comes before algo-10, however many hosts there are."""
    hosts = sorted((f"algo-{number}" for number in numbers), key=natural_order)
    assert hosts == [f"algo-{number}" for number in sorted(numbers)]
