"""Plans: what would be called, under which names, and that AWS's model takes all of it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tests.unit.launch.conftest import DIGEST, IMAGE, PLACE, WHERE, hyphened, validate

from sagemaker_byoc.launch import endpoint, train
from sagemaker_byoc.launch.steps import role_arn
from sagemaker_byoc.launch.table import SettingsError

EVERYTHING = {
    "max_runtime": "1h",
    "spot": True,
    "channels": {"train": "data/train", "more": {"source": "s3://bucket/p", "mode": "FastFile"}},
    "hyperparameters": {"epochs": 3},
    "environment": {"WANDB_API_KEY": "topsecret", "MODE": "fast"},
    "metrics": {"loss": "loss=([0-9.]+)"},
    "checkpoints": True,
    "tags": {"team": "vision"},
    "subnets": ["subnet-12345678"],
    "security_groups": ["sg-12345678"],
    "request": {"CreateTrainingJob": {"EnableNetworkIsolation": True, "RetryStrategy":
                {"MaximumRetryAttempts": 2}}},
}  # fmt: skip


def request_of(plan, operation="CreateTrainingJob"):
    (found,) = [call.parameters for call in plan.calls() if call.operation == operation]
    return found


def test_a_job_with_everything(make_train):
    plan = make_train(**EVERYTHING)
    validate(plan)
    made = request_of(plan)
    assert made["TrainingJobName"] == plan.name
    assert made["AlgorithmSpecification"]["TrainingImage"] == IMAGE
    assert made["StoppingCondition"] == {
        "MaxRuntimeInSeconds": 3600,
        "MaxWaitTimeInSeconds": 7200,
    }
    assert made["EnableManagedSpotTraining"]
    assert made["EnableNetworkIsolation"]
    assert made["HyperParameters"] == {"epochs": "3"}
    local, remote = made["InputDataConfig"]
    assert local["DataSource"]["S3DataSource"]["S3Uri"].startswith(
        "s3://sagemaker-eu-west-1-123456789012/digits/inputs/train/"
    )
    assert remote["InputMode"] == "FastFile"
    tags = {tag["Key"]: tag["Value"] for tag in made["Tags"]}
    assert tags["byoc:image-digest"] == DIGEST
    assert tags["byoc:commit"] == "0" * 40
    assert tags["team"] == "vision"
    assert made["Environment"]["BYOC_IMAGE_DIGEST"] == DIGEST
    assert [step.makes.split()[0] for step in plan.steps] == [
        "bucket",
        plan.steps[1].uri,
        "training",
    ]
    assert plan.cost == "1 x ml.m5.large, spot, 30 GB each, for at most 1 h"


def test_what_is_shown_to_cost_is_what_is_asked_for(make_train, make_endpoint):
    """Also where it comes from the API's own members."""
    more = {
        "ResourceConfig": {"InstanceCount": 8},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
    }
    plan = make_train(request={"CreateTrainingJob": more})
    assert plan.cost == "8 x ml.m5.large, 30 GB each, for at most 1 min"
    groups = [
        {"InstanceGroupName": name, "InstanceType": kind, "InstanceCount": count}
        for name, kind, count in (("cpu", "ml.m5.large", 1), ("gpu", "ml.g5.xlarge", 2))
    ]
    request = {"CreateTrainingJob": {"ResourceConfig": {"InstanceGroups": groups}}}
    plan = make_train(instance_type="", request=request)
    validate(plan)
    assert plan.cost.startswith("1 x ml.m5.large and 2 x ml.g5.xlarge, 30 GB each")
    variant = {"VariantName": "A", "ModelName": "m", "InstanceType": "ml.c5.large",
               "InitialInstanceCount": 4}  # fmt: skip
    plan = make_endpoint(request={"CreateEndpointConfig": {"ProductionVariants": [variant]}})
    assert plan.cost == "4 x ml.c5.large, until it is deleted"


def test_the_smallest_job(make_train):
    """Nothing is uploaded; the default bucket is for the model."""
    plan = make_train()
    validate(plan)
    assert len(plan.steps) == 2
    assert not {"InputDataConfig", "HyperParameters", "VpcConfig"} & request_of(plan).keys()
    elsewhere = make_train(output="s3://mine/out")
    assert len(elsewhere.steps) == 1


def test_the_same_settings_make_the_same_name(make_train, folder):
    """And whatever decides about the result makes another one."""
    first = make_train(channels={"train": "data/train"}).name
    assert make_train(channels={"train": "data/train"}).name == first
    assert make_train(channels={"train": "data/train"}, tags={"a": "b"}).name == first
    committed = replace(PLACE, commit="1" * 40)
    assert make_train(channels={"train": "data/train"}, place=committed).name == first
    others = {
        make_train(channels={"train": "data/test"}).name,
        make_train(channels={"train": "data/train"}, hyperparameters={"epochs": 1}).name,
        make_train(channels={"train": "data/train"}, place=replace(PLACE, digest="sha256:1")).name,
        make_train(channels={"train": "data/train"}, new="20260101-000000").name,
        make_train(channels={"train": "data/train"}, instance_count=2).name,
    }
    (folder / "data/train/rows.csv").write_text("other\n")
    others.add(make_train(channels={"train": "data/train"}).name)
    assert len(others | {first}) == 7


def test_a_new_secret_is_another_name_and_no_name_tells_it(make_endpoint):
    """Else the endpoint would keep the old one; and a hash of a short one could be guessed."""
    names = {make_endpoint(environment={"API_KEY": key}).steps[0].makes for key in ("1234", "1235")}
    assert len(names) == 2


def test_long_names_are_cut_at_the_stem(make_train):
    plan = make_train(name="a" * 63, new="20260101-000000")
    validate(plan)
    assert len(plan.name) <= 63
    assert plan.name.endswith("-20260101-000000")


def test_an_endpoint(make_endpoint):
    plan = make_endpoint(
        artifact="s3://bucket/model.tar.gz", startup_timeout="10m", environment={"MODE": "fast"}
    )
    validate(plan)
    model, config, endpoint = (step.call.parameters for step in plan.steps)
    assert model["PrimaryContainer"]["ModelDataUrl"] == "s3://bucket/model.tar.gz"
    (variant,) = config["ProductionVariants"]
    assert variant["ModelName"] == model["ModelName"]
    assert variant["ContainerStartupHealthCheckTimeoutInSeconds"] == 600
    assert endpoint["EndpointName"] == "digits"
    last = plan.steps[-1]
    assert last.instead.operation == "UpdateEndpoint"
    assert last.same == {"EndpointConfigName": config["EndpointConfigName"]}
    assert plan.cost == "1 x ml.m5.large, until it is deleted"


def test_a_serverless_endpoint(folder, make_endpoint):
    table = {"name": "digits", "serverless": {"memory-mb": 4096}, "model": "model"}
    plan = endpoint.plan(endpoint.read("x", table, folder), PLACE)
    validate(plan)
    bucket, upload, model, config, _ = plan.steps
    assert bucket.call.operation == "CreateBucket"
    assert upload.files[0].key.endswith("/model.tar.gz")
    uri = model.call.parameters["PrimaryContainer"]["ModelDataUrl"]
    assert uri == f"s3://{upload.bucket}/{upload.files[0].key}"
    assert config.call.parameters["ProductionVariants"][0]["ServerlessConfig"] == {
        "MemorySizeInMB": 4096,
        "MaxConcurrency": 5,
    }
    assert "4096 MB" in plan.cost


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"name": "a_b"}, "name is 'a_b'"),
        ({"instance_type": ""}, "instance-type is missing"),
        ({"channels": {"train": "nowhere"}}, "there is no file or folder"),
    ],
)
def test_what_no_plan_is_made_of(make_train, keys, words):
    with pytest.raises(SettingsError) as caught:
        make_train(**keys)
    assert words in caught.value.what


def test_an_empty_folder_is_no_channel(make_train, folder):
    (folder / "empty").mkdir()
    with pytest.raises(SettingsError, match="empty folder"):
        make_train(channels={"train": "empty"})


def test_a_channel_with_what_cannot_be_uploaded(make_train, folder):
    """A FIFO would be read for ever, and a broken link is data that is missing."""
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / "gone").symlink_to("nowhere")
    with pytest.raises(SettingsError, match="gone is not a file"):
        make_train(channels={"train": "data"})


LONG = "y" * 2501
SPOT = {"spot": True, "checkpoints": True}
KEEP = {"ResourceConfig": {"KeepAlivePeriodInSeconds": 600}}
CHANNEL = {
    "ChannelName": "a",
    "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/p"}},
}
GROUP = {"InstanceGroupName": "g", "InstanceType": "ml.m5.large", "InstanceCount": 1}
MANY = {f"h{number}": "1" for number in range(101)}


@pytest.mark.parametrize(
    ("keys", "what", "hint"),
    [
        ({"instance_type": "ml.m5.larg"}, "instance-type is 'ml.m5.larg'", "mean ml.m5.large?"),
        ({"instance_type": "large"}, "instance-type is 'large'", "botocore"),
        ({"hyperparameters": {"x": LONG}}, "hyperparameters.x is 2501 characters", "smaller"),
        ({"hyperparameters": {"k" * 257: 1}}, "a name that is 257 characters long", "smaller"),
        ({"hyperparameters": MANY}, "hyperparameters is 101 entries; SageMaker takes 100", ""),
        ({"channels": {"a/b": "s3://bucket/p"}}, "channels.a/b is 'a/b'", "The pattern is"),
        ({"channels": {"a": {"source": "s3://bucket/p", "mode": "Fast"}}},
         "channels.a.mode is 'Fast'", "Use Pipe or File or FastFile"),
        ({"channels": {"a": "s3://B_/p"}}, "'B_' is not the name of a bucket", "3 to 63"),
        ({"channels": {"a": "s3://b..c/p"}}, "'b..c' is not the name of a bucket", "3 to 63"),
        ({"channels": {"..": "s3://bucket/p"}}, "channels... names another folder", ""),
        ({"output": "s3://UPPER/p"}, "output is 's3://UPPER/p'", "3 to 63"),
        ({"environment": {"1A": "x"}}, "environment.1A has a name that is '1A'", "The pattern"),
        ({"hyperparameters": {"x": "a\nb"}}, "hyperparameters.x is ***, which", "line break"),
        ({"environment": {"A": LONG}}, "environment.A is 2501 characters long", "smaller"),
        ({"tags": {"aws:x": "1"}}, "tags.aws:x has a name that AWS reserves", "another name"),
        ({"tags": {"AWS:x": "1"}}, "tags.AWS:x has a name that AWS reserves", "another name"),
        ({"tags": {"k" * 129: "1"}}, "is 129 characters long; SageMaker takes 128", "smaller"),
        ({"tags": {"k": "v" * 257}}, "tags.k is 257 characters long", "smaller"),
        ({"tags": {f"t{n}": "" for n in range(50)}}, "tags is 53 entries", "smaller"),
        ({"environment": {"A": "x\0y"}}, "environment.A has a NUL character", "Leave it out"),
        ({"instance_type": "m5.large"}, "instance-type is 'm5.large'", "mean ml.m5.large?"),
        ({"instance_type": " ML.m5.large"}, "instance-type is ' ML.m5.large'", "ml.m5.large?"),
        ({"output": "s3://a..b/p"}, "'a..b' is not the name of a bucket", "3 to 63"),
        ({"request": {"CreateTrainingJob": {"InputDataConfig": [CHANNEL, CHANNEL]}}},
         "InputDataConfig.a is named more than once", "another name"),
        ({"request": {"CreateTrainingJob": {"AlgorithmSpecification": {"AlgorithmName": "x"}}}},
         "AlgorithmName names an algorithm beside the image", "Leave it out"),
        ({"request": {"CreateTrainingJob": {"ResourceConfig": {"InstanceGroups": []}}}},
         "ResourceConfig.InstanceGroups is empty", "Write a group"),
        ({"request": {"CreateTrainingJob": {"ResourceConfig": {"InstanceGroups": [GROUP, GROUP]}}}},
         "InstanceGroups has 'g' more than once", "another name"),
        ({"request": {"CreateTrainingJob": {"TensorBoardOutputConfig": {"S3OutputPath": "s3://B/x"}}}},
         "'B' is not the name of a bucket", "3 to 63"),
        ({"metrics": {"loss": "loss=("}}, "metrics.loss is not a regular expression", ""),
        ({"metrics": {"loss": "loss=.*"}}, "metrics.loss has no group", "parentheses"),
        ({"metrics": {"loss": f"({LONG})"}}, "metrics.loss is 2503 characters long", "smaller"),
        ({**SPOT, "max_runtime": "2h", "max_wait": "1h"}, "max-wait is 1 h, less than", "as long"),
        ({"max_runtime": "29d"}, "max-runtime is 29 d; SageMaker takes 28 d at most", "Shorten"),
        ({"instance_count": 2**31}, "instance-count is 2147483648; SageMaker takes", "smaller"),
        ({"volume_gb": 20000}, "volume-gb is 20000; the largest", "FastFile"),
        ({"subnets": ["net"], "security_groups": ["sg-1"]}, "subnets has 'net'", "subnet-01"),
        ({"subnets": ["subnet-1"], "security_groups": ["default"]},
         "security-groups has 'default'", "sg-01"),
        ({"subnets": ["subnet-1"] * 17, "security_groups": ["sg-1"]},
         "subnets is 17 entries; SageMaker takes 16", "smaller"),
        ({**SPOT, "request": {"CreateTrainingJob": KEEP}},
         "request.CreateTrainingJob.ResourceConfig.KeepAlivePeriodInSeconds keeps a warm pool", ""),
        ({"request": {"CreateTrainingJob": {"RetryStrategi": {}}}},
         "request.CreateTrainingJob.RetryStrategi is not a member", "Did you mean RetryStrategy?"),
        ({"request": {"CreateTrainingJob": {"ResourceConfig": {"InstanceTyp": "x"}}}},
         "request.CreateTrainingJob.ResourceConfig.InstanceTyp is not", "mean InstanceType?"),
        ({"request": {"CreateTrainingJob": {"ResourceConfig": {"InstanceCount": "two"}}}},
         "Invalid type for parameter ResourceConfig.InstanceCount, value: ***", "Correct"),
        ({"request": {"CreateTrainingJob": {"StoppingCondition": {"MaxRuntimeInSeconds": True}}}},
         "MaxRuntimeInSeconds is true, not a number", "Correct it"),
        ({"request": {"CreateTrainingJob": {"StoppingCondition": {"MaxWaitTimeInSeconds": 9}}}},
         "MaxWaitTimeInSeconds is for managed spot training", "spot = true"),
    ],
)  # fmt: skip
def test_what_aws_would_refuse_is_refused_first(make_train, keys, what, hint):
    """By AWS's own service model and its documentation: before anything is asked or uploaded."""
    with pytest.raises(SettingsError) as caught:
        validate(make_train(**keys), keys.get("request"))
    assert what in caught.value.what
    assert hint in caught.value.hint


def raw(operation, **members):
    return {"request": {operation: members}}


VARIANT = {
    "VariantName": "v",
    "ModelName": "m",
    "InstanceType": "ml.m5.large",
    "InitialInstanceCount": 1,
}
NEITHER = {"VariantName": "v", "ModelName": "m"}
FUNCTION = {
    "ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 5, "ProvisionedConcurrency": 6}
}
CAPTURE = {
    "EnableCapture": True,
    "InitialSamplingPercentage": 100,
    "DestinationS3Uri": "s3://bucket/c",
    "CaptureOptions": [{"CaptureMode": "Input"}],
}
VPC = {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
FOLDER = {
    "ModelDataSource": {
        "S3DataSource": {
            "S3Uri": "s3://bucket/m/",
            "S3DataType": "S3Prefix",
            "CompressionType": "None",
        }
    }
}
PRIVATE = {"ImageConfig": {"RepositoryAccessMode": "Vpc"}}


def test_members_that_are_made_from_the_tables_own_keys(folder):
    """They would be lost, or make another thing than the one that is looked for."""
    for kind, operation, member in (
        (train, "CreateTrainingJob", "Tags"),
        (train, "CreateTrainingJob", "TrainingJobName"),
        (endpoint, "CreateModel", "ModelName"),
        (endpoint, "CreateEndpointConfig", "Tags"),
        (endpoint, "CreateEndpoint", "EndpointName"),
    ):
        with pytest.raises(SettingsError, match=f"{operation}.{member} is made from another key"):
            kind.read(WHERE, {"request": {operation: {member: "x"}}}, folder)


def test_all_hundred_variables_are_the_users(make_train):
    """What our library records of the run yields to them."""
    values = {f"V{number}": "x" for number in range(100)}
    plan = make_train(environment=values)
    assert plan.steps[-1].call.parameters["Environment"] == values
    assert validate(plan) == []


@pytest.mark.parametrize("name", ["", "r" * 65])
def test_a_role_that_iam_would_not_have(make_train, name):
    place = replace(PLACE, role=f"arn:aws:iam::123456789012:role/{name}")
    with pytest.raises(SettingsError, match="IAM takes 1 to 64"):
        validate(make_train(place=place))


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ({"serverless": {}, "instance_count": 2}, "instance-count is '2'"),
        ({"serverless": {"memory-mb": 1500}}, "serverless.memory-mb is 1500"),
        ({"serverless": {"memory-mb": 512}}, "serverless.memory-mb is 512"),
        ({"serverless": {"max-concurrency": 201}}, "serverless.max-concurrency is 201"),
        ({"startup_timeout": 10}, "startup-timeout is 10; SageMaker takes 60 at least"),
        ({"ami_version": "al2"}, "ami-version is 'al2'"),
        ({"environment": {f"V{n}": "x" * 1024 for n in range(33)}}, "environment has 33881 bytes"),
        ({"model": "s3://bad_bucket/model.tar.gz"}, "model is 's3://bad_bucket/model.tar.gz'"),
        ({"instance_type": "ml.t2.mediu"}, "instance-type is 'ml.t2.mediu'"),
        (raw("CreateModel", Containers=[{"Image": "x"}]), "Containers is set beside"),
        (
            {"model": "s3://bucket/m.tar.gz", **raw("CreateModel", PrimaryContainer=FOLDER)},
            "PrimaryContainer.ModelDataSource is set beside",
        ),
        (raw("CreateEndpointConfig", ProductionVariants=[VARIANT, VARIANT]), "more than once"),
        (raw("CreateEndpointConfig", ProductionVariants=[NEITHER]), "one of the two"),
        (
            raw("CreateEndpointConfig", ProductionVariants=[{**VARIANT, **FUNCTION}]),
            "one of the two",
        ),
        (
            raw("CreateEndpointConfig", ShadowProductionVariants=[{**VARIANT, "VariantName": "s"},
                                                                  {**VARIANT, "VariantName": "t"}]),
            "ShadowProductionVariants has 2 beside 1 variants",
        ),
        (
            raw("CreateEndpointConfig", DataCaptureConfig={**CAPTURE, "DestinationS3Uri": "s3://B_"}),
            "'B_' is not the name of a bucket",
        ),
        (
            raw("CreateEndpointConfig", ProductionVariants=[{**NEITHER, **FUNCTION}]),
            "ProvisionedConcurrency is 6, more than the most requests at a time, 5",
        ),
        *(
            ({"serverless": {}, **raw("CreateEndpointConfig", **{name: value})}, f"{name} is set")
            for name, value in {
                "DataCaptureConfig": CAPTURE,
                "AsyncInferenceConfig": {"OutputConfig": {"S3OutputPath": "s3://bucket/o"}},
                "ShadowProductionVariants": [VARIANT],
                "VpcConfig": VPC,
                "EnableNetworkIsolation": True,
            }.items()
        ),
        *(
            ({"serverless": {}, **raw("CreateModel", **{name: value})}, f"CreateModel.{name}")
            for name, value in {
                "VpcConfig": VPC,
                "EnableNetworkIsolation": True,
                "PrimaryContainer": FOLDER,
            }.items()
        ),
        ({"serverless": {}, **raw("CreateModel", PrimaryContainer={"Mode": "MultiModel"})},
         "PrimaryContainer.Mode is set, and a serverless endpoint can't"),
        ({"serverless": {}, **raw("CreateModel", PrimaryContainer=PRIVATE)}, "ImageConfig is set"),
    ],
)  # fmt: skip
def test_what_aws_would_refuse_of_an_endpoint(folder, keys, what):
    table = {"name": "digits", **hyphened(keys)}
    if "serverless" not in keys:
        table = {"instance-type": "ml.m5.large", **table}
    with pytest.raises(SettingsError) as caught:
        validate(
            endpoint.plan(endpoint.read(WHERE, table, folder), PLACE), keys.get("request"), endpoint
        )
    assert what in caught.value.what
    assert caught.value.hint


def test_a_model_that_is_not_an_archive(make_endpoint, folder):
    """It would be sent as model.tar.gz, and fail on the instances."""
    (folder / "weights.bin").write_bytes(b"weights")
    with pytest.raises(SettingsError, match=r"weights\.bin is not a \.tar\.gz archive"):
        make_endpoint(model="weights.bin")


def test_what_is_likely_a_mistake_is_a_warning(make_train, make_endpoint):
    assert "checkpoints is missing" in validate(make_train(spot=True))[0]
    assert "default quota of 5 d" in validate(make_train(max_runtime="6d"))[0]
    assert "Name the archive" in validate(make_endpoint(model="s3://bucket/folder/"))[0]
    assert validate(make_train(**SPOT)) == []


def test_no_secret_is_shown(make_train):
    """Not by its name, not inside JSON, not in a tag, and not in what a service repeats."""
    plan = make_train(
        environment={"WANDB_API_KEY": "topsecret", "PASSWORD": "ab"},
        hyperparameters={"auth": {"token": "insidejson"}, "hub_token": "straight"},
        tags={"password": "tagged1"},
    )
    text = json.dumps(plan.document())
    for secret in ("topsecret", "insidejson", "straight", "tagged1", '"ab"'):
        assert secret not in text
    said = "Value '{WANDB_API_KEY=topsecret, PASSWORD=ab, x=[insidejson]}' at 'tags' tagged1"
    assert plan.masker()(said) == "Value '{WANDB_API_KEY=***, PASSWORD=***, x=[***]}' at 'tags' ***"


def test_a_refusal_of_the_model_hides_secrets(make_train):
    with pytest.raises(SettingsError) as caught:
        validate(make_train(environment={"1A": "x", "MY_TOKEN": "topsecret", "PASSWORD": "ab"}))
    assert "topsecret" not in str(caught.value)
    assert "1A" in str(caught.value)
    for keys in (
        {"environment": {"MY_TOKEN": "topsecret" * 100}},
        {"hyperparameters": {"config": '{"token":\n"topsecret"}'}},
        {"tags": {"password": "topsecret?"}},
        {"request": {"CreateTrainingJob": {"Environment": {"X": ["topsecret"]}}}},
    ):
        with pytest.raises(SettingsError) as caught:
            validate(make_train(**keys), keys.get("request"))
        assert "topsecret" not in str(caught.value)


def test_us_east_1_has_no_location(make_train):
    plan = make_train(place=replace(PLACE, region="us-east-1"))
    validate(plan)
    assert "CreateBucketConfiguration" not in plan.steps[0].call.parameters


@pytest.mark.parametrize(
    ("region", "arn"),
    [
        ("eu-west-1", "arn:aws:iam::1:role/R"),
        ("cn-north-1", "arn:aws-cn:iam::1:role/R"),
        ("us-gov-west-1", "arn:aws-us-gov:iam::1:role/R"),
    ],
)
def test_a_roles_name_becomes_its_arn(region, arn):
    assert role_arn("R", region, "1") == arn
    assert role_arn(arn, "elsewhere", "2") == arn


def variant_of(plan):
    (found,) = [call for call in plan.calls() if call.operation == "CreateEndpointConfig"]
    (variant,) = found.parameters["ProductionVariants"]
    return variant


@pytest.mark.parametrize(
    ("cuda", "instance_type", "name"),
    [
        ("12.8", "ml.g5.xlarge", "al2-ami-sagemaker-inference-gpu-3-1"),  # driver 470 by default
        ("12.8", "ml.p4d.24xlarge", "al2-ami-sagemaker-inference-gpu-3-1"),
        ("12.8", "ml.p5.48xlarge", ""),
        ("12.8", "ml.g6e.xlarge", ""),  # AWS lists all families with an older driver than 535
        ("11.8", "ml.g5.xlarge", ""),
        ("13.0", "ml.g5.xlarge", "al2023-ami-sagemaker-inference-gpu-4-1"),
        ("13.0", "ml.p5en.48xlarge", "al2023-ami-sagemaker-inference-gpu-4-1"),
        ("13.0", "ml.g6e.xlarge", "al2023-ami-sagemaker-inference-gpu-4-1"),
        ("13.0", "ml.m5.large", ""),
        ("13.0", "ml.inf2.xlarge", ""),
        ("12.8", "ml.p3.2xlarge", "al2-ami-sagemaker-inference-gpu-3-1"),
        ("12.8", "ml.p6-b200.48xlarge", ""),
        ("11.4", "ml.p2.xlarge", ""),
    ],
)
def test_the_host_image_fits_the_images_cuda(make_endpoint, cuda, instance_type, name):
    """Named if the instances have an older driver by default, and explained in the plan."""
    plan = make_endpoint(place=replace(PLACE, cuda=cuda), instance_type=instance_type)
    validate(plan)
    assert variant_of(plan).get("InferenceAmiVersion", "") == name
    assert [*plan.notes] == plan.document().get("notes", [])
    if name:
        (note,) = plan.notes
        assert f"InferenceAmiVersion {name}" in note
        assert f"CUDA {cuda}, and {instance_type} has" in note
    else:
        assert not plan.notes


@pytest.mark.parametrize(
    ("cuda", "words"),
    [(None, "ecr:GetDownloadUrlForLayer"), ("", "doesn't state its CUDA (label sagemaker-byoc")],
)
def test_an_image_of_an_unknown_cuda_is_said_so(make_endpoint, cuda, words):
    """Nothing is chosen for it, and the plan names what is missing and the key."""
    place = replace(PLACE, cuda=cuda)
    plan = make_endpoint(place=place, instance_type="ml.g5.xlarge")
    assert "InferenceAmiVersion" not in variant_of(plan)
    assert words in plan.notes[0]
    assert "what ml.g5.xlarge has by default; ami-version" in plan.notes[0]
    assert not make_endpoint(place=place).notes
    local = replace(place, endpoint="http://127.0.0.1:5000")
    assert not make_endpoint(place=local, instance_type="ml.g5.xlarge").notes
    named = {"instance_type": "ml.g5.xlarge", "ami_version": "al2-ami-sagemaker-inference-gpu-2"}
    assert not make_endpoint(place=place, **named).notes


@pytest.mark.parametrize(
    ("cuda", "instance_type"), [("12.8", "ml.p2.xlarge"), ("13.0", "ml.p3.2xlarge")]
)
def test_a_cuda_without_code_for_the_gpu_is_refused(make_endpoint, cuda, instance_type):
    """The driver would run it, and the first kernel would fail."""
    place = replace(PLACE, cuda=cuda)
    with pytest.raises(SettingsError, match=f"CUDA {cuda}, which has no code for the GPUs of ml"):
        make_endpoint(place=place, instance_type=instance_type)


def test_the_variant_of_an_asynchronous_endpoint_has_its_host_image(make_endpoint):
    output = {"OutputConfig": {"S3OutputPath": "s3://bucket/out"}}
    plan = make_endpoint(
        place=replace(PLACE, cuda="12.8"),
        instance_type="ml.g5.xlarge",
        request={"CreateEndpointConfig": {"AsyncInferenceConfig": output}},
    )
    validate(plan)
    assert variant_of(plan)["InferenceAmiVersion"] == "al2-ami-sagemaker-inference-gpu-3-1"


def test_a_cuda_that_no_host_runs_is_refused(make_endpoint):
    place = replace(PLACE, cuda="14.1")
    with pytest.raises(SettingsError, match=r"CUDA 14.1, and no host image .* for ml.g5.xlarge"):
        make_endpoint(place=place, instance_type="ml.g5.xlarge")
    make_endpoint(place=place)  # without a GPU nothing needs a driver


def test_a_host_image_of_the_users_wins(make_endpoint):
    """Also one that can't run the image, with a warning."""
    place = replace(PLACE, cuda="13.0")
    old = "al2-ami-sagemaker-inference-gpu-2"
    plan = make_endpoint(place=place, instance_type="ml.g5.xlarge", ami_version=old)
    assert variant_of(plan)["InferenceAmiVersion"] == old
    assert plan.notes[0].startswith("warning: the image was built for CUDA 13.0, which the driver")
    own = [{"VariantName": "mine", "ModelName": "m", "InstanceType": "ml.g5.xlarge"}]
    plan = make_endpoint(
        place=replace(PLACE, cuda="14.0"),
        instance_type="ml.g5.xlarge",
        request={"CreateEndpointConfig": {"ProductionVariants": own}},
    )
    assert variant_of(plan) == own[0]
    assert not plan.notes
