"""What a container finds below /opt/ml/input: files, shards, links, and the configuration."""

from __future__ import annotations

import json

import pytest
from tests.unit.region.services.sagemaker.training_jobs.conftest import (
    BUCKET,
    TrainingRegion,
    channel,
)

from sagemaker_byoc.region.engines.process import ProcessEngine
from sagemaker_byoc.region.wire.operations import AwsError

pytestmark = pytest.mark.slow  # real processes

MODEL = f"s3://{BUCKET}/out/job-1/output/model.tar.gz"
SHOW = "cd /opt/ml/input/data && find . -type f -o -type l | sort"


def test_prefix_is_a_string_and_names_keep_their_tail(region):
    """s3://b/train also brings train2/x; a folder of that name gives the keys below it."""
    for key in ("d/train/a.csv", "d/train/deep/b.csv", "d/train2/c.csv", "d/train/", "other"):
        region.put(key)
    region.run(SHOW, InputDataConfig=[channel("train", "d/train")])
    assert region.log() == [
        "./train-manifest",
        "./train/a.csv",
        "./train/deep/b.csv",
        "./train/train2/c.csv",
        f"byoc: /opt/ml/model was left empty: there is nothing at {MODEL}",
    ]


def test_one_object_is_a_prefix_too(region):
    """Its name is that of the file."""
    region.put("d/rows.csv", b"1,2")
    region.run(
        "cat /opt/ml/input/data/train/rows.csv", InputDataConfig=[channel("train", "d/rows")]
    )
    assert region.log()[0] == "1,2"


def test_manifest(region):
    """A prefix and keys, in their order; each must exist."""
    region.put("m/a.csv")
    region.put("m/sub/b.csv")
    document = [{"prefix": f"s3://{BUCKET}/m/"}, "sub/b.csv", "a.csv"]
    region.put("list.manifest", json.dumps(document).encode())
    source = channel("train", "list.manifest", "ManifestFile")
    region.run(SHOW, InputDataConfig=[source])
    assert region.log()[1:3] == ["./train/a.csv", "./train/sub/b.csv"]
    region.put("list.manifest", json.dumps([*document, "absent.csv"]).encode())
    ended = region.run(SHOW, "job-2", InputDataConfig=[source])
    assert ended["TrainingJobStatus"] == "Failed"
    assert ended["FailureReason"].startswith("ClientError: Data download failed: NoSuchKey")
    assert "m/absent.csv" in ended["FailureReason"]


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        ("ManifestFile", b"[" * 100_000, "the manifest s3://data-bucket/m is nested too deeply"),
        (
            "AugmentedManifestFile",
            b'{"a": 1}\n7\n',
            "line 2 of s3://data-bucket/m is not a JSON object",
        ),
        ("AugmentedManifestFile", b'"a"\n', "line 1 of s3://data-bucket/m is not a JSON object"),
        ("AugmentedManifestFile", b"[" * 100_000, "line 1 of s3://data-bucket/m is nested too"),
    ],
)
def test_manifests_that_are_none(region, kind, data, words):
    region.put("m", data)
    more = {} if kind == "ManifestFile" else {"InputMode": "Pipe"}
    source = {"AttributeNames": ["a"]} if more else {}
    entry = channel("train", "m", kind, source=source, **more)
    ended = region.run("true", InputDataConfig=[entry])
    assert ended["FailureReason"].startswith(f"ClientError: Data download failed: {words}")


def test_shards_are_dealt_and_replicas_are_whole(region):
    """Host i of n gets keys i, i + n, …; with more hosts than objects, some get none."""
    for name in "abc":
        region.put(f"d/{name}")
    sharded = {"S3DataDistributionType": "ShardedByS3Key"}
    region.run(
        "cd /opt/ml/input/data; echo some: $(ls some) all: $(ls all)",
        hosts=2,
        InputDataConfig=[channel("some", "d/", source=sharded), channel("all", "d/")],
    )
    assert "some: a c all: a b c" in region.log(host="algo-1")
    assert "some: b all: a b c" in region.log(host="algo-2")


def test_a_program_may_change_its_input_and_not_the_bucket(region):
    """In File mode the files are its own."""
    region.put("d/a", b"original")
    ended = region.run(
        "echo changed > /opt/ml/input/data/train/a && rm -r /opt/ml/input/data/train",
        InputDataConfig=[channel("train", "d/")],
    )
    assert ended["TrainingJobStatus"] == "Completed"
    assert region.read("d/a") == b"original"


def test_fast_file_is_read_only_and_knows_folders_only(region):
    """Nothing is copied, nothing can be changed, and half a name is no folder."""
    region.put("d/train/a", b"original")
    region.put("d/train2/b")
    fast = channel("train", "d/train", InputMode="FastFile")
    region.run(
        "cd /opt/ml/input/data/train; ls; cat a; echo; echo x > a || rm a || echo refused",
        InputDataConfig=[fast],
    )
    assert region.log()[:2] == ["a", "original"]
    assert "refused" in region.log()
    assert region.read("d/train/a") == b"original"
    with pytest.raises(AwsError, match="No S3 objects found"):
        region.create(SHOW, "job-2", InputDataConfig=[channel("t", "d/tra", InputMode="FastFile")])


def test_shuffle_is_the_seeds(region):
    """The same seed deals the same cards."""
    for number in range(8):
        region.put(f"d/{number}")
    source = {"S3DataDistributionType": "ShardedByS3Key"}
    seen = []
    for place, seed in enumerate((1, 1, 2)):
        shuffled = channel("t", "d/", source=source, ShuffleConfig={"Seed": seed})
        name = f"job-{place}"
        region.run("echo $(ls /opt/ml/input/data/t)", name, hosts=2, InputDataConfig=[shuffled])
        seen.append((region.log(name)[0], region.log(name, "algo-2")[0]))
    assert seen[0] == seen[1] != seen[2]
    assert sorted(" ".join(seen[0]).split()) == [*"01234567"]


@pytest.mark.parametrize(
    ("keys", "words"),
    [(["d/../up"], "leads outside"), (["d/a", "d/a/b"], "a file and also a folder")],
)
def test_keys_that_no_folder_can_hold(region, keys, words):
    """The job fails and says which."""
    try:
        for key in keys:
            region.put(key)
    except AwsError as error:
        pytest.skip(f"the store refuses such keys: {error}")
    ended = region.run("true", InputDataConfig=[channel("train", "d/")])
    assert words in ended["FailureReason"]


def test_config_files(region):
    """Hyperparameters as text, channels with four keys, resources, checkpoints."""
    region.put("d/a")
    region.run(
        "cd /opt/ml/input/config; for f in *; do echo $f $(cat $f); done",
        hosts=1,
        HyperParameters={"epochs": "3"},
        InputDataConfig=[channel("train", "d/", ContentType="text/csv")],
        CheckpointConfig={"S3Uri": f"s3://{BUCKET}/c"},
    )
    files = dict(line.split(" ", 1) for line in region.log() if ".json" in line.split()[0])
    assert json.loads(files["hyperparameters.json"]) == {"epochs": "3"}
    assert json.loads(files["inputdataconfig.json"]) == {
        "train": {
            "ContentType": "text/csv",
            "TrainingInputMode": "File",
            "S3DistributionType": "FullyReplicated",
            "RecordWrapperType": "None",
        }
    }
    assert json.loads(files["resourceconfig.json"]) == {
        "current_host": "algo-1",
        "current_instance_type": "ml.m5.large",
        "current_group_name": "homogeneousCluster",
        "hosts": ["algo-1"],
        "instance_groups": [
            {
                "instance_group_name": "homogeneousCluster",
                "instance_type": "ml.m5.large",
                "hosts": ["algo-1"],
            }
        ],
        "network_interface_name": "lo",
    }
    assert json.loads(files["checkpointconfig.json"]) == {"S3Uri": f"s3://{BUCKET}/c"}


def test_environment_and_command_line(region):
    """The platform's variables, the request's own, and nothing of this machine's shell."""
    variables = "$TRAINING_JOB_NAME $TRAINING_JOB_ARN $MY"
    arn = region.create(
        algorithm={
            "ContainerEntrypoint": ["/bin/sh"],
            "ContainerArguments": ["-c", f"echo $0 $1 {variables}", "a", "b"],
        },
        Environment={"MY": "own"},
    )
    region.end()
    assert region.log()[0] == f"a b job-1 {arn} own"


def test_heterogeneous_groups(region):
    """Hosts are numbered through; a channel may be for some of the groups."""
    region.put("d/a")
    groups = [
        {"InstanceGroupName": "cpu", "InstanceType": "ml.m5.large", "InstanceCount": 1},
        {"InstanceGroupName": "gpu", "InstanceType": "ml.g5.xlarge", "InstanceCount": 2},
    ]
    region.run(
        "echo $(grep current /opt/ml/input/config/resourceconfig.json) $(ls /opt/ml/input/data)",
        ResourceConfig={"InstanceGroups": groups, "VolumeSizeInGB": 1},
        InputDataConfig=[channel("only", "d/", source={"InstanceGroupNames": ["gpu"]})],
    )
    assert '"current_group_name": "cpu"' in region.log(host="algo-1")[0]
    assert "only" not in region.log(host="algo-1")[0]
    for host in ("algo-2", "algo-3"):
        line = region.log(host=host)[0]
        assert '"current_instance_type": "ml.g5.xlarge"' in line
        assert line.endswith("only only-manifest")


def test_hosts_know_each_other_by_name(region):
    """Each has an address of its own, under its name and under its fellows'."""
    region.run(
        "getent hosts algo-1 algo-2 | sort -u -k 2 > /opt/ml/model/$(hostname);"
        " cat /opt/ml/model/*",
        hosts=2,
    )
    first, second = region.log(host="algo-1")[:2]
    assert [line.split()[1] for line in (first, second)] == ["algo-1", "algo-2"]
    assert first.split()[0] != second.split()[0]
    assert region.log(host="algo-2")[:2] == [first, second]


def test_network_isolation(region):
    """One interface, and it leads nowhere; the container still knows its own name."""
    region.run(
        "ls /sys/class/net; cat /proc/net/dev | grep -c :; hostname", EnableNetworkIsolation=True
    )
    assert region.log()[-3:-1] == ["1", "algo-1"]


def test_where_namespaces_are_forbidden(tmp_path):
    """The tree is moved; its input is no way to the files of the bucket there either."""
    region = TrainingRegion(tmp_path / "state", ProcessEngine(()))
    try:
        region.put("d/a", b"original")
        ended = region.run(
            "cd $SAGEMAKER_BASE_DIR/input/data; cat fast/a file/a; echo; echo x > fast/a; "
            "echo x > file/a; hostname > ../../model/m",
            InputDataConfig=[channel("fast", "d/", InputMode="FastFile"), channel("file", "d/")],
        )
        assert ended["TrainingJobStatus"] == "Completed"
        assert region.log()[0] == "originaloriginal"
        assert region.read("d/a") == b"original"
        assert region.objects("out/") == ["out/job-1/output/model.tar.gz"]
        assert "kernel forbids" in region.run("true", "job-2", hosts=2)["FailureReason"]
    finally:
        region.close()
