"""`byoc launch`: flags and files that can't be meant, and which image is launched."""

from __future__ import annotations

import argparse
import io
import json
import re
from urllib.parse import quote

import pytest
import yaml

from sagemaker_byoc.cli.commands import launch
from sagemaker_byoc.cli.main import main
from sagemaker_byoc.host.aws_calls import RefusedError
from sagemaker_byoc.images.model import DOCKER_MANIFEST
from sagemaker_byoc.launch import endpoint, train
from sagemaker_byoc.launch.image import Pinned, pin
from sagemaker_byoc.launch.steps import Plan
from sagemaker_byoc.launch.table import SettingsError

DIGEST = "sha256:" + "ab" * 32
HOST = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
TRAINING_IMAGE = "AlgorithmSpecification.TrainingImageConfig"
KUBERNETES = ["--kubernetes", "--print"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    for name in ("SAGEMAKER_ROLE", "AWS_ENDPOINT_URL", "BYOC_REGION_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "--kubernetes"], "--kubernetes needs --print"),
        (["train", *KUBERNETES, "--local"], "exclude each other"),
        (["train", "--kubernetes", "kserve", "--print"], "kserve is not for train"),
        (["endpoint", "--kubernetes", "pytorchjob", "--print"], "pytorchjob is not for endpoint"),
        (["train", "--print", "--wait"], "--print launches nothing"),
        (["train", "--timeout", "5"], "--timeout needs --wait"),
        (["endpoint", "--new"], "--new is for training jobs"),
        (["train", "--state", "x"], "--url and --state name a region of this machine"),
        (["train", "--config", "missing.toml"], "there is no file missing.toml"),
        (["train", "--config", "."], "Is a directory"),
        (["train", "--set", "epochs"], "'epochs' is not KEY=VALUE"),
        (["train", "--set", "epochs=3"], "there is no key epochs"),
        (["train"], "role is missing"),
        (["train", "--set", "role=R"], "image is missing"),
        (["train", "--set", "role=R", "--image", "digits"], "it is in no ECR registry"),
        (["train", "--set", "role=R", "--set", "region=us-east-1", "--image", f"{HOST}/x@{DIGEST}"],
         "is in eu-west-1, and the launch in us-east-1"),
        (["train", *KUBERNETES], "image is missing"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_exit_2_with_a_hint(words, said, capsys):
    assert main(["launch", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert "fix: " in err


@pytest.mark.parametrize(
    "words",
    [["launch"], ["launch", "dance"], ["launch", "train", "--wait", "--timeout", "0"],
     ["launch", "train", "--timeout", "soon"], ["launch", "train", "--url", "x", "--state", "y"]],
)  # fmt: skip
def test_usage_is_exit_2(words, capsys):
    assert main(words) == 2
    assert "fix: " in capsys.readouterr().err


@pytest.mark.parametrize("text", ["[tool", "[tool.byoc]\ntrain = 3", "\xff"])
def test_a_broken_file_is_named(text, folder, capsys):
    (folder / "pyproject.toml").write_bytes(text.encode("latin-1"))
    assert main(["launch", "train", "--print"]) == 2
    assert "pyproject.toml" in capsys.readouterr().err


def test_settings_are_checked_before_anything_is_asked(folder, capsys, monkeypatch):
    """All of them at once, also with --print, and though nobody would answer."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "none"))
    (folder / "pyproject.toml").write_text(
        '[tool.byoc.train]\nname = "a_b"\nspot = true\nmax-runtime = "2h"\nmax-wait = "1h"\n'
        'tags = {"aws:x" = "1"}\nmetrics = {loss = "("}\nchannels = {train = "none"}\n'
        'bucket = "B"\nvolume-gb = "big"\nworkers = 3\n'
    )
    assert main(["launch", "train", "--print"]) == 2
    err = capsys.readouterr().err
    assert err.count("error[") == 1
    for words in (
        "12 settings are missing or wrong", "there is no key workers", "volume-gb is 'big'",
        "region: no region is set", "--set region=eu-west-1", "image is missing", "--image",
        "role is missing", "SAGEMAKER_ROLE", "name is 'a_b'", "bucket is 'B'",
        "instance-type is missing", "--set instance-type=ml.m5.large",
        "channels.train: there is no file or folder", "tags.aws:x", "max-wait is 1 h",
        "metrics.loss",
    ):  # fmt: skip
        assert words in err
    assert main(["launch", "train", "--print", "--local"]) == 2
    err = capsys.readouterr().err
    assert "role is missing" not in err
    assert "no region is set" not in err


@pytest.mark.parametrize(
    ("kind", "member"),
    [
        ("train", "CreateTrainingJob.ResourceConfig=3"),
        ("train", "CreateTrainingJob.StoppingCondition=3"),
        ("train", 'CreateTrainingJob.StoppingCondition.MaxRuntimeInSeconds="x"'),
        ("train", "CreateTrainingJob.ResourceConfig.InstanceGroups=[3]"),
        ("train", "CreateTrainingJob.Tags=3"),
        ("endpoint", "CreateEndpointConfig.ProductionVariants=3"),
        ("endpoint", "CreateEndpointConfig.ProductionVariants=[3]"),
        ("endpoint", "CreateModel.PrimaryContainer=3"),
    ],
)
def test_a_raw_member_of_another_type(kind, member, capsys):
    words = ["launch", kind, "--print", "--set", f"request.{member}", "--set", "name=a_b"]
    assert main([*words, "--set", "tags={a=1,'aws:b'=1}"]) == 2
    err = capsys.readouterr().err
    assert "Invalid type for parameter" in err
    assert "<class" not in err
    for others in ("role is missing", "image is missing", "name is 'a_b'", "tags.aws:b"):
        assert others in err


@pytest.mark.parametrize("repository", ["x", "x" * 257])
def test_a_repository_that_ecr_would_not_have(folder, capsys, repository):
    image = f"{HOST}/{repository}:v1"
    assert main(["launch", "train", "--print", "--image", image]) == 2
    err = capsys.readouterr().err
    assert "role is missing" in err
    assert "repositoryName is" in err or "image name has" in err


def test_one_setting_may_be_wrong_twice(folder, capsys, monkeypatch):
    """And is not named twice for one thing."""
    words = ["launch", "train", "--print", "--set", "channels.'a b'=none"]
    assert main(words) == 2
    err = capsys.readouterr().err
    assert "channels.a b: there is no file or folder" in err
    assert "channels.a b is 'a b', which SageMaker does not take" in err
    network = "{subnets=['subnet-1'],security-groups=['sg-1'],serverless={}}"
    (folder / "pyproject.toml").write_text(f"[tool.byoc]\nendpoint = {network}\n")
    assert main(["launch", "endpoint", "--print"]) == 2
    assert "VpcConfig" not in capsys.readouterr().err


def test_a_tag_is_asked_for_after_the_settings(folder, capsys, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    words = ["launch", "train", "--print", "--image", f"{HOST}/digits:v1", "--set", "role=R"]
    assert main([*words, "--set", "instance-type=ml.m5.larg"]) == 2
    assert "Did you mean ml.m5.large?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "member"),
    [
        ("train", f"CreateTrainingJob.{TRAINING_IMAGE}.TrainingRepositoryAccessMode=Vpc"),
        ("endpoint", "CreateModel.PrimaryContainer.ImageConfig.RepositoryAccessMode=Vpc"),
    ],
)
def test_an_image_of_a_private_registry_is_launched_as_it_is_named(
    folder, capsys, monkeypatch, kind, member
):
    """SageMaker pulls it through the VPC; nobody else has to be able to."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    (folder / "pyproject.toml").write_text(
        f'[tool.byoc.{kind}]\nname = "digits"\nimage = "registry.corp:5000/digits:1"\n'
        'bucket = "mine"\nrole = "arn:aws:iam::123456789012:role/R"\n'
        'instance-type = "ml.m5.large"\nsubnets = ["subnet-1"]\nsecurity-groups = ["sg-1"]\n'
    )
    assert main(["launch", kind, "--print", "--set", f"request.{member}"]) == 0
    assert '"registry.corp:5000/digits:1"' in capsys.readouterr().out


def test_warnings_stand_in_the_plan(folder, capsys, monkeypatch):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    (folder / "pyproject.toml").write_text(
        f'[tool.byoc.train]\nname = "digits"\nimage = "{HOST}/digits@{DIGEST}"\n'
        'bucket = "mine"\nrole = "arn:aws:iam::123456789012:role/R"\nspot = true\n'
        'instance-type = "ml.m5.large"\n'
    )
    assert main(["launch", "train", "--print"]) == 0
    (note,) = json.loads(capsys.readouterr().out)["notes"]
    assert note.startswith("warning: checkpoints is missing")


def test_manifests_need_no_region_and_no_account(folder, capsys):
    (folder / "pyproject.toml").write_text('[tool.byoc]\nname = "digits"\n')
    assert main(["launch", "endpoint", *KUBERNETES, "--image", "byoc-serve", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [item["kind"] for item in found["items"]] == ["Deployment", "Service"]
    assert {item["metadata"]["name"] for item in found["items"]} == {"digits"}


def test_a_plan_needs_no_credentials_where_the_file_says_all(folder, capsys, monkeypatch):
    """For a review, or in CI: image by digest, role by ARN, a bucket of one's own."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # nobody would answer
    (folder / "pyproject.toml").write_text(
        f'[tool.byoc.train]\nname = "digits"\nimage = "{HOST}/digits@{DIGEST}"\nbucket = "mine"\n'
        'role = "arn:aws:iam::123456789012:role/R"\ninstance-type = "ml.m5.large"\n'
    )
    assert main(["launch", "train", "--print"]) == 0
    plan = json.loads(capsys.readouterr().out)
    (step,) = plan["steps"]
    assert (
        step["call"]["parameters"]["OutputDataConfig"]["S3OutputPath"] == "s3://mine/digits/output"
    )


@pytest.mark.parametrize(("answer", "goes_on"), [("y", True), ("yes", True), ("", False)])
def test_somebody_at_a_terminal_is_asked(answer, goes_on, monkeypatch, capsys):
    plan = Plan(kind="train", name="digits-1", region="eu-west-1", steps=(), cost="1 x ml.m5.large")
    terminal = io.StringIO(f"{answer}\n")
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdin", terminal)
    monkeypatch.setattr(launch.console, "is_interactive", lambda: True)
    asked = argparse.Namespace(local=False, yes=False)
    if goes_on:
        launch._confirm(asked, plan)
    else:
        with pytest.raises(SettingsError, match="nothing was done"):
            launch._confirm(asked, plan)
    assert "1 x ml.m5.large" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "table", "left"),
    [
        ("train", "role = 'r'\ncheckpoints = true\nspot = true", "checkpoints, role, spot"),
        ("train", "checkpoints = true\nkubernetes.checkpoints = 'pvc:c'\nname = 'n'", ""),
        ("endpoint", "ami-version = 'a'\nrole = 'r'", "ami-version, role"),
    ],
)
def test_keys_that_kubernetes_has_no_use_for_are_named(kind, table, left, folder, capsys):
    text = f"[tool.byoc.{kind}]\nimage = 'digits:1'\nname = 'digits'\n{table}\n"
    (folder / "own.toml").write_text(text.replace("\nname = 'n'", ""))
    assert main(["launch", kind, *KUBERNETES, "--config", "own.toml"]) == 0
    said = capsys.readouterr().err
    assert said == (f"  warning: SageMaker alone has a use for {left}: left out\n" if left else "")


class Ecr:
    """Has one image, of one media type and architecture; `refusal` answers DescribeImages."""

    region = "eu-west-1"

    def __init__(
        self,
        refusal=None,
        media_type=DOCKER_MANIFEST,
        architecture="amd64",
        config=None,
        artifact=None,
        **more,
    ):
        self.refusal = refusal
        self.artifact = artifact
        self.manifest = {"config": {"digest": "sha256:c", "mediaType": artifact}, **more}
        self.config = config
        self.media_type = media_type
        self.architecture = architecture

    def call(self, call):
        operation, parameters = call.operation, call.parameters
        assert call.service == "ecr"
        assert parameters["registryId"] == "123456789012"
        assert parameters["repositoryName"] == "digits"
        if operation == "DescribeImages":
            if self.refusal is not None:
                raise self.refusal
            detail = {"imageDigest": DIGEST, "imageManifestMediaType": self.media_type}
            if self.artifact:
                detail["artifactMediaType"] = self.artifact
            return {"imageDetails": [detail]}
        if operation == "BatchGetImage":
            if self.manifest.get("secret"):
                raise RefusedError("AccessDeniedException", "no", hint="")
            image = {"imageManifest": json.dumps(self.manifest)}
            return {"images": [image | {"imageManifestMediaType": self.media_type}]}
        assert (operation, parameters["layerDigest"]) == ("GetDownloadUrlForLayer", "sha256:c")
        if not self.architecture:
            raise RefusedError("AccessDeniedException", "no", hint="")
        document = {"architecture": self.architecture, "config": self.config}
        return {"downloadUrl": f"data:,{quote(json.dumps(document))}"}


def pinned(folder, image, refusal=None, instance="ml.m5.large", **ecr):
    shared = train.read("x", {"image": image, "instance-type": instance}, folder).shared
    return pin(shared, image, Ecr(refusal, **ecr))


def test_a_tag_is_pinned_to_its_digest(folder):
    """It may mean another image by the time that SageMaker pulls."""
    assert pinned(folder, f"{HOST}/digits:v1") == Pinned(f"{HOST}/digits@{DIGEST}", DIGEST, "")


OCI = "application/vnd.oci.image."
LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
HELM = "application/vnd.cncf.helm.config.v1+json"
ZSTD = "application/vnd.docker.image.rootfs.diff.tar.zstd"
OTHER = "sha256:" + "cd" * 32
FORM = r"--provenance=false.* skopeo copy --format v2s2"
MACHINE = "docker buildx build --platform linux/"
AMD, ARM, UNKNOWN = (
    {
        "digest": OTHER,
        "mediaType": DOCKER_MANIFEST,
        "platform": {"os": "linux", "architecture": name},
    }
    for name in ("amd64", "arm64", "unknown")
)
ATTESTATION = UNKNOWN | {"annotations": {"vnd.docker.reference.type": "attestation-manifest"}}


@pytest.mark.parametrize("name", ["digits:v1", f"digits@{DIGEST}"])
@pytest.mark.parametrize(
    ("ecr", "words", "hint"),
    [
        ({"media_type": f"{OCI}manifest.v1+json"}, "manifest.v1.json, which SageMaker", FORM),
        ({"media_type": f"{OCI}index.v1+json"}, "index.v1.json, an index, which SageMaker", FORM),
        (
            {"media_type": f"{OCI}index.v1+json", "manifests": [AMD, ARM, ATTESTATION]},
            "an index of linux/amd64, linux/arm64 and attestations, which SageMaker refuses",
            FORM,
        ),
        ({"media_type": LIST, "manifests": [AMD]}, "index of linux/amd64, which SageMaker", FORM),
        (
            {"media_type": f"{OCI}manifest.v1+json", "artifact": HELM},
            "is not an image but application/vnd.cncf.helm",
            "Name an image",
        ),
        (
            {"media_type": f"{OCI}manifest.v1+json", "artifact": HELM, "secret": True},
            "is not an image but application/vnd.cncf.helm",
            "Name an image",
        ),
        ({"layers": [{"mediaType": ZSTD}]}, "layers packed with zstd", "force-compression=true"),
        ({"architecture": "arm64"}, "for arm64, and the instances are amd64", f"{MACHINE}amd64"),
        ({"instance": "ml.c7gd.large"}, "amd64, and the instances are arm64", f"{MACHINE}arm64"),
        (
            {"instance": "ml.p6e-gb200.36xlarge"},
            "for amd64, and the instances are arm64",
            f"{MACHINE}arm64",
        ),
    ],
)
def test_an_image_that_sagemaker_refuses_is_not_launched(folder, name, ecr, words, hint):
    """Whoever pushed it: with the command that makes it one that SageMaker takes."""
    with pytest.raises(SettingsError, match=words) as error:
        pinned(folder, f"{HOST}/{name}", **ecr)
    assert re.search(hint, error.value.hint)


def test_the_image_of_an_index_is_named(folder):
    """In the same repository, and stored as SageMaker takes it."""
    index = {"media_type": LIST, "manifests": [ARM, AMD]}
    with pytest.raises(SettingsError) as error:
        pinned(folder, f"{HOST}/digits:v1", **index)
    assert f'image = "{HOST}/digits@{OTHER}"' in error.value.hint


def test_what_may_not_be_described_is_read(folder):
    """Roles that pull have BatchGetImage, and often no more."""
    refusal = RefusedError("AccessDeniedException", "no", hint="")
    with pytest.raises(SettingsError, match="which SageMaker refuses"):
        pinned(folder, f"{HOST}/digits@{DIGEST}", refusal, media_type=f"{OCI}manifest.v1+json")


@pytest.mark.parametrize(
    "ecr",
    [
        {"architecture": "arm64", "instance": "ml.m8g.large"},
        {"architecture": "amd64", "instance": "ml.g5.xlarge"},
        {"architecture": ""},  # may not be read
    ],
)
def test_an_image_that_fits_its_instances_is_launched(folder, ecr):
    found = pinned(folder, f"{HOST}/digits:v1", **ecr)
    assert (found.image, found.digest) == (f"{HOST}/digits@{DIGEST}", DIGEST)
    assert found.cuda == ("" if ecr["architecture"] else None)


@pytest.mark.parametrize("architecture", ["arm64", "amd64"])
@pytest.mark.parametrize("kind", [train, endpoint])
def test_instances_that_are_named_raw_have_to_run_the_image(folder, kind, architecture):
    hosts = [{"InstanceType": "ml.c7g.large"}]
    raw = {
        train: {"CreateTrainingJob": {"ResourceConfig": {"InstanceGroups": hosts}}},
        endpoint: {"CreateEndpointConfig": {"ProductionVariants": hosts}},
    }[kind]
    image = f"{HOST}/digits:v1"
    shared = kind.read("x", {"image": image, "request": raw}, folder).shared
    caller = Ecr(architecture=architecture)
    if architecture == "arm64":
        assert pin(shared, image, caller).digest == DIGEST
    else:
        with pytest.raises(SettingsError, match=r"the instances are arm64 \(ml\.c7g\.large\)"):
            pin(shared, image, caller)


@pytest.mark.parametrize(
    ("config", "cuda"),
    [
        ({"Labels": {"sagemaker-byoc.cuda": "12.8"}}, "12.8"),
        ({"Labels": None, "Env": ["PATH=/bin", "CUDA_VERSION=13.0.1"]}, "13.0"),
        ({"Labels": {"sagemaker-byoc.cuda": ""}, "Env": ["CUDA_VERSION=11.8.0"]}, "11.8"),
        ({"Labels": {"sagemaker-byoc.cuda": "latest"}, "Env": None}, ""),
        ({"Labels": ["12.8"], "Env": "CUDA_VERSION=12.8"}, ""),
        ("12.8", ""),
        (None, ""),
    ],
)
def test_the_cuda_that_an_image_states(folder, config, cuda):
    """Ours has a label, NVIDIA's have a variable; what can't be read states nothing."""
    assert pinned(folder, f"{HOST}/digits:v1", config=config).cuda == cuda


def test_a_digest_is_launched_by_who_may_not_read_it(folder):
    image = f"{HOST}/digits@{DIGEST}"
    refusal = RefusedError("AccessDeniedException", "no", hint="")
    assert pinned(folder, image, refusal, architecture="") == Pinned(image, DIGEST)
    with pytest.raises(RefusedError):
        pinned(folder, f"{HOST}/digits:v1", refusal)


def test_an_image_that_is_not_there(folder):
    refusal = RefusedError("ImageNotFoundException", "no", hint="")
    with pytest.raises(SettingsError, match="is not in ECR"):
        pinned(folder, f"{HOST}/digits:v1", refusal)


# ── YAML that every reader takes for what was meant ──


def test_a_yaml_document():
    assert launch.as_yaml([{"kind": "Pod", "n": 3, "on": True, "none": None, "args": ["train", "y"],
                  "env": [{"name": "A", "value": "1"}, {"name": "B"}],
                  "empty": {}, "nothing": [], "nested": [[1, 2], [{"a": "b"}]]}]) == (
        "kind: Pod\n"
        '"n": 3\n'
        '"on": true\n'
        "none: null\n"
        "args:\n"
        "- train\n"
        '- "y"\n'
        "env:\n"
        "- name: A\n"
        '  value: "1"\n'
        "- name: B\n"
        "empty: {}\n"
        "nothing: []\n"
        "nested:\n"
        "- - 1\n"
        "  - 2\n"
        "- - a: b\n"
    )  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["", "yes", "No", "null", "~", "1", "1.0", "0x1f", "1e3", "2026-01-01", "12:30", "- a", "a: b",
     "a #b", "*x", "&x", "!x", "%x", "@x", "`x`", "{a}", "[a]", "'a'", '"a"', "a\nb", " a", "a ",
     "\u2028", "é", "\x07", "=", "<<", "---", "...", "|", ">", "?", ".inf", ".5", "a:"],
)  # fmt: skip
def test_what_could_be_misread_is_quoted(text):
    """In ASCII and on one line."""
    line = launch.as_yaml([{"key": text}])
    assert yaml.safe_load(line) == {"key": text}
    assert line.isascii()
    assert re.fullmatch(r'key: ".*"\n', line)


def test_a_character_is_one_escape():
    """Readers of YAML refuse the two halves in which JSON writes it (go-yaml: scannerc.go)."""
    assert launch.as_yaml([{"key": "\U0001f600\x7f"}]) == 'key: "\\U0001F600\\x7F"\n'


@pytest.mark.parametrize(
    "text", ["train", "/opt/ml/model", "byoc:latest", "apps/v1", "a-b.c_d", "pvc:data/x"]
)
def test_what_can_not_be_is_plain(text):
    assert launch.as_yaml([{"key": text}]) == f"key: {text}\n"


def test_yaml_documents_are_separated():
    assert launch.as_yaml([{"a": 1}, {"b": 2}]) == "a: 1\n---\nb: 2\n"
