"""Channels of files: what is listed, how it is divided, how it is read."""

from __future__ import annotations

import gzip
import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.channels import (
    Channel,
    Distribution,
    InputMode,
    RecordWrapper,
    write_channels,
)
from sagemaker_byoc.training.library.data.channel import Part, channel
from sagemaker_byoc.training.library.data.records import (
    FIRST,
    LAST,
    Framing,
    RecordError,
    encode_record,
    frame,
)
from sagemaker_byoc.training.library.data.sources import DataError
from sagemaker_byoc.training.library.process import Place, Unit, job

pytestmark = pytest.mark.slow  # real processes

BOTH = st.sampled_from([Distribution.REPLICATED, Distribution.SHARDED])


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


@pytest.fixture
def reader(tree):
    """A channel with some content by file name, as one place of the job sees it."""

    def made(content, mode=InputMode.FILE, name="train", **fields):
        write_channels(tree, {name: Channel(name, mode, **fields)})
        for file, data in content.items():
            path = tree.channel(name) / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return channel(name, job({"SAGEMAKER_BASE_DIR": str(tree.root)}))

    return made


def test_listing(reader, tree):
    """All folders, natural order; neither hidden files nor manifests."""
    names = ["part-10", "part-2", "a/part-1", ".hidden", ".git/config", "train-manifest"]
    found = reader(dict.fromkeys(names, b"")).files()
    folder = tree.channel("train")
    assert [str(path.relative_to(folder)) for path in found] == ["a/part-1", "part-2", "part-10"]


SPARK = {
    "part-0": b"a\n",
    "part-1": b"b\n",
    "part-2": b"c\n",
    "part-3": b"d\n",
    "_SUCCESS": b"",
    "_metadata": b"x",
    "._part-0": b"x",
    ".part-0.crc": b"x",
    ".DS_Store": b"x",
    "_temporary/0/part-9": b"x",
    ".ipynb_checkpoints/part-0": b"x",
    "__MACOSX/part-0": b"x",
    "train-manifest": b"x",
    "Thumbs.db": b"x",
    "desktop.ini": b"x",
    "a_$folder$": b"",
}


def test_what_is_no_data(reader, capsys):
    """What Spark, macOS, notebooks and SageMaker leave beside the data belongs to no rank's share;
    one process says it once."""
    train = reader(SPARK)
    shares = [train.shard(Place(rank, 4, rank, 4)).files() for rank in range(4)]
    assert [[path.name for path in own] for own in shares] == [[f"part-{n}"] for n in range(4)]
    assert [*train.records()] == [b"a\n", b"b\n", b"c\n", b"d\n"]
    [line] = capsys.readouterr().out.splitlines()
    assert "left out, as no data: .DS_Store, ._part-0" in line
    assert line.endswith("and 4 more")


def test_folder_behind_a_link_is_named(reader, tmp_path, capsys):
    """Its files are not read, as none is in a job's channel; that is said."""
    train = reader({"part-0": b"a\n"})
    (train.files()[0].parent / "more").symlink_to(tmp_path)
    assert [path.name for path in train.files()] == ["part-0"]
    assert capsys.readouterr().out.endswith("left out, as no data: more/ (a link)\n")


@pytest.mark.parametrize(
    ("data", "descriptions"),
    [
        ("data-00000-of-00001.arrow", ["dataset_dict.json", "dataset_info.json", "state.json"]),
        ("shard.00000.mds.zstd", ["index.json"]),
        ("chunk-0-0.bin", ["index.json"]),
        ("0.jpg", []),
    ],
)
def test_descriptions_of_data(reader, data, descriptions):
    """What libraries write beside their shards; only there, and not if it is asked for."""
    every = ["dataset_dict.json", "dataset_info.json", "index.json", "state.json"]
    train = reader(dict.fromkeys([data, *every], b"x"))
    assert {path.name for path in train.files()} == {data, *every} - set(descriptions)
    assert [path.name for path in train.files("*.json")] == every


def test_what_is_asked_for_by_name(reader):
    """A pattern that begins with `_`; partitions are folders of data, whatever they begin with."""
    content = {"_meta.json": b"x", ".hidden.json": b"x", "_day=1/part-0.json": b"x"}
    train = reader(content)
    assert [path.name for path in train.files("_*.json")] == ["_meta.json"]
    assert [path.name for path in train.files("*.json")] == ["part-0.json"]


def test_empty_files(reader):
    """They are files, as labels of pictures without objects, but nobody's only ones."""
    content = {f"part-{n}": b"x\n" * (n % 2) for n in range(8)}
    train = reader(content)
    assert len(train.files()) == 8
    shares = [train.shard(Place(rank, 4, rank, 4)).files() for rank in range(4)]
    assert sorted(path.name for own in shares for path in own) == sorted(content)
    assert [sum(path.stat().st_size for path in own) for own in shares] == [2, 2, 2, 2]
    assert [part.bytes for part in train.shard(Place(0, 4, 0, 4)).counts()] == [2, 2, 2, 2]
    with pytest.raises(DataError, match="not every one gets a file"):
        train.shard(Place(0, 5, 0, 5)).files()


def test_pattern(reader):
    """Some of the files, by name."""
    train = reader({"a.bin": b"", "b/c.bin": b"", "meta.json": b""})
    assert [path.name for path in train.files("*.bin")] == ["a.bin", "c.bin"]


@pytest.mark.parametrize("mode", [InputMode.FILE, InputMode.FAST_FILE])
def test_lines(reader, mode):
    """As a file gives them: with their line feeds, the last of which may be missing."""
    train = reader({"a": b"1\n\n3", "b": b"4\r\n", "c": b""}, mode)
    assert list(train.records()) == [b"1\n", b"\n", b"3", b"4\r\n"]


@given(content=st.binary(max_size=40), size=st.integers(1, 9))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_lines_over_chunks(content, size, monkeypatch):
    """Where the chunks of a read end makes no difference."""
    import io

    from sagemaker_byoc.training.library.data import records

    monkeypatch.setattr(records, "CHUNK", size)
    blocks = records.split(io.BytesIO(content), Framing.LINES, "x")
    assert list(itertools.chain.from_iterable(blocks)) == list(io.BytesIO(content))


def test_whole_objects(reader):
    """One record a file."""
    assert list(reader({"a": b"1\n2", "b": b""}).records(Framing.WHOLE)) == [b"1\n2", b""]


def test_gzip_members(reader):
    """Several gzip files one after the other are one, and are unpacked by their content."""
    packed = gzip.compress(b"1\n2\n") + gzip.compress(b"3\n")
    assert list(reader({"a.gz": packed, "b": b"4\n"}).records()) == [b"1\n", b"2\n", b"3\n", b"4\n"]


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data[:-4] + b"\0" * 4])
def test_broken_gzip(reader, damage):
    """A cut or altered one is named."""
    train = reader({"a.gz": damage(gzip.compress(bytes(range(256)) * 9))})
    with pytest.raises(RecordError, match=r"a\.gz: is not a whole gzip file"):
        list(train.records(Framing.WHOLE))


def test_recordio_files(reader):
    """MXNet's own files, magic words inside records included."""
    payload = b"1234\x0a\x23\xd7\xce5678"
    train = reader({"a.rec": encode_record(payload) + encode_record(b"x")})
    assert list(train.records(Framing.RECORD_IO)) == [payload, b"x"]


def test_recordio_by_sagemaker(reader):
    """Declared on the channel it is the default, and parts are joined as AWS's reader does."""
    train = reader(
        {"a": frame(b"1234", FIRST) + frame(b"56", LAST)},
        record_wrapper=RecordWrapper.RECORD_IO,
    )
    assert list(train.records()) == [b"123456"]


def test_damage_names_file_and_byte(reader):
    """Where to look."""
    train = reader({"a": encode_record(b"abcd"), "b": b"no record at all"})
    with pytest.raises(RecordError, match=r"train/b, byte 0: has"):
        list(train.records(Framing.RECORD_IO))


def test_unknown_channel(reader):
    """What there is instead."""
    reader({})
    with pytest.raises(DataError, match="is not on this host, which has: train"):
        channel("test", job({"SAGEMAKER_BASE_DIR": str(reader({}).tree.root)}))


def test_missing_folder(reader):
    """A declared channel that was never mounted is not an empty one."""
    with pytest.raises(DataError, match="can't be listed"):
        reader({}).files()


@given(
    size=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    lines=st.lists(st.integers(0, 4), max_size=8),
    distribution=BOTH,
    unit=st.sampled_from([None, Unit.RECORDS]),
)
@settings(max_examples=50)
def test_every_record_is_read_once(tmp_path_factory, size, lines, distribution, unit):
    """By some process, by no two, however the files fall; for both distributions."""
    hosts, ranks = size
    files = {f"f{n}": [f"{n}:{m}\n" for m in range(count)] for n, count in enumerate(lines)}
    read = []
    for host in range(hosts):
        tree = Tree(tmp_path_factory.mktemp("host"))
        write_channels(tree, {"train": Channel("train", distribution=distribution)})
        tree.channel("train").mkdir(parents=True)
        is_sharded = distribution is Distribution.SHARDED
        for number, (name, content) in enumerate(files.items()):
            if not is_sharded or number % hosts == host:
                (tree.channel("train") / name).write_text("".join(content))
        process = job({"SAGEMAKER_BASE_DIR": str(tree.root)})
        for local in range(ranks):
            place = Place.uniform(host * ranks + local, hosts * ranks, hosts)
            read += channel("train", process).shard(place, unit).records()
    assert sorted(read) == sorted(line.encode() for own in files.values() for line in own)


def test_files_are_divided(reader):
    """Each share has its own, and the counts show how equal they are."""
    train = reader({f"f{n}": b"x" * n for n in range(5)})
    shares = [train.shard(Place(rank, 2)) for rank in range(2)]
    names = [[path.name for path in share.files()] for share in shares]
    assert names == [["f0", "f2", "f4"], ["f1", "f3"]]
    assert shares[0].counts() == shares[1].counts() == [Part(3, 6), Part(2, 4)]


def test_too_few_files(reader):
    """No share gets nothing unseen: records are divided instead, and files() says so."""
    train = reader({"a": b"1\n2\n3\n"})
    shares = [train.shard(Place(rank, 2)) for rank in range(2)]
    assert [list(share.records()) for share in shares] == [[b"1\n", b"3\n"], [b"2\n"]]
    assert shares[0].counts() == [Part(1, 6)] * 2
    with pytest.raises(DataError, match="has 1 files for 2 shares"):
        shares[0].files()


def test_even(reader):
    """Equally many records for each process, whatever the files hold."""
    train = reader({"a": b"1\n2\n3\n4\n", "b": b"5\n"})
    shares = [train.shard(Place(rank, 2)) for rank in range(2)]
    assert [list(s.records(even=True)) for s in shares] == [[b"1\n", b"3\n"], [b"2\n", b"4\n"]]


def test_even_over_hosts_with_different_data(reader):
    """What can't be known is not promised."""
    train = reader({"a": b"1"}, distribution=Distribution.SHARDED).shard(Place(0, 2, 0, 1))
    with pytest.raises(DataError, match="no host knows"):
        train.records(even=True)


def test_default_shard_is_this_process(tree, reader):
    """Without a place it is the job's own."""
    reader({f"f{n}": b"" for n in range(4)})
    environ = {"SAGEMAKER_BASE_DIR": str(tree.root), "RANK": "1", "WORLD_SIZE": "2"}
    train = channel("train", job(environ)).shard()
    assert [path.name for path in train.files()] == ["f1", "f3"]


def test_stop_between_files(reader):
    """A stopped job does not read on."""
    answers = itertools.chain([False], itertools.repeat(True))
    train = reader({"a": b"1\n", "b": b"2\n"})
    assert list(train.records(stop=lambda: next(answers))) == [b"1\n"]
