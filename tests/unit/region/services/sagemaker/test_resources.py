"""What every kind of resource has in common, on kinds that the tests declare."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import threading
from datetime import timedelta

import pytest

from sagemaker_byoc.region.containers.recorded_images import RecordedImages
from sagemaker_byoc.region.core import records
from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.core.records import now
from sagemaker_byoc.region.services.logs.log_store import LogStore
from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore
from sagemaker_byoc.region.services.sagemaker import state_changes
from sagemaker_byoc.region.services.sagemaker.context import RegionContext
from sagemaker_byoc.region.services.sagemaker.endpoints.endpoints import ENDPOINT
from sagemaker_byoc.region.services.sagemaker.jobs.job import (
    JobKind,
    JobRecord,
    Stage,
    Status,
    job_subject,
)
from sagemaker_byoc.region.services.sagemaker.model_registry.groups import GROUP
from sagemaker_byoc.region.services.sagemaker.model_registry.packages import PACKAGE
from sagemaker_byoc.region.services.sagemaker.models import MODEL
from sagemaker_byoc.region.services.sagemaker.processing_jobs.processing_jobs import (
    PROCESSING_JOB,
)
from sagemaker_byoc.region.services.sagemaker.resources import Kind
from sagemaker_byoc.region.services.sagemaker.training_jobs.record import TRAINING_JOB
from sagemaker_byoc.region.services.sagemaker.transform_jobs.record import TRANSFORM_JOB
from sagemaker_byoc.region.wire import models
from sagemaker_byoc.region.wire.operations import AwsError

PROJECT = Kind(noun="project", member="Project", resource="project", folder="projects")
JOB = JobKind(
    noun="transform job",
    member="TransformJob",
    resource="transform-job",
    folder="transform-jobs",
    group="/aws/sagemaker/TransformJobs",
    times="Transform",
)


@pytest.fixture
def context(tmp_path):
    store = ObjectStore(tmp_path / "s3")
    made = RegionContext(
        state=tmp_path,
        account=Account(),
        engine=None,
        images=RecordedImages(tmp_path),
        store=store,
        logs=LogStore(tmp_path / "logs"),
    )
    yield made
    made.metrics.close()
    store.close()


@pytest.fixture
def projects(context):
    return context.resources(PROJECT)


@pytest.fixture
def jobs(context):
    return context.resources(JOB)


def add_job(jobs, name="one", status="InProgress"):
    jobs.add(name, jobs.new(name, TransformJobStatus=status))
    return JobRecord(name, jobs, JOB)


def test_a_kind_has_the_operations_of_its_name(projects):
    assert sorted(projects.operations()) == ["DeleteProject", "DescribeProject", "ListProjects"]


def test_an_entry_of_a_list_has_the_members_of_the_service_model(projects):
    projects.add("one", projects.new("one", ProjectStatus="CreateCompleted", Private="secret"))
    (entry,) = projects.page(projects, {})["ProjectSummaryList"]
    assert {**entry, "CreationTime": None} == {
        "ProjectName": "one",
        "ProjectArn": "arn:aws:sagemaker:us-east-1:000000000000:project/one",
        "ProjectStatus": "CreateCompleted",
        "CreationTime": None,
    }


def test_lists_are_sorted_by_any_member_and_paged(projects):
    names = ["b", "c", "a"]
    for hours, name in enumerate(names):
        time = now() + timedelta(hours=hours)
        projects.add(name, {**projects.new(name), "CreationTime": time})

    def listed(**asked):
        page = projects.page(projects, asked)
        return [each["ProjectName"] for each in page["ProjectSummaryList"]], page.get("NextToken")

    assert listed() == (["a", "c", "b"], None)
    assert listed(SortBy="Name", SortOrder="Ascending")[0] == ["a", "b", "c"]
    first, token = listed(SortBy="Name", MaxResults=2)
    assert first == ["c", "b"]
    projects.remove("c")
    assert listed(SortBy="Name", MaxResults=2, NextToken=token) == (["a"], None)
    assert listed(NameContains="B")[0] == ["b"]
    with pytest.raises(AwsError, match="Invalid pagination token"):
        listed(NextToken="none of ours")


def test_a_filter_of_a_time_that_a_document_lacks_excludes_it(projects):
    projects.add("one", projects.new("one"))
    found = projects.page(projects, {"LastModifiedTimeAfter": now() - timedelta(days=1)})
    assert found["ProjectSummaryList"] == []


def test_a_name_is_used_once(projects, jobs):
    """With the code that each kind has at AWS."""
    projects.add("one", projects.new("one"))
    add_job(jobs)
    for resources, code in ((projects, "ValidationException"), (jobs, "ResourceInUse")):
        with pytest.raises(AwsError, match="already exist") as caught:
            resources.add("one", resources.new("one"))
        assert caught.value.code == code


def test_one_of_many_that_add_a_name_at_once_succeeds(projects):
    start = threading.Barrier(8)
    refused = []

    def add():
        start.wait(60)
        try:
            projects.add("one", projects.new("one"))
        except AwsError as error:
            refused.append(error.code)

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert refused == ["ValidationException"] * 7


def test_tags_of_a_creation_that_a_kill_ended_are_not_those_of_the_next(projects):
    """Tags are written before the document, which a kill may prevent."""
    projects.tags.add(projects.arn("one"), [{"Key": "team", "Value": "lost"}])
    projects.add("one", projects.new("one"), [{"Key": "stage", "Value": "test"}])
    assert projects.tags.get(projects.arn("one")) == {"stage": "test"}


def test_refused_tags_leave_nothing(projects):
    with pytest.raises(AwsError, match="begins with aws:"):
        projects.add("one", projects.new("one"), [{"Key": "aws:x", "Value": "y"}])
    assert "one" not in projects
    assert projects.tags.get(projects.arn("one")) == {}


def test_an_edit_that_returns_false_changes_nothing(projects):
    projects.add("one", projects.new("one"))
    before = projects.get("one")

    def edit(document):
        document["Private"] = "x"
        return False

    assert not projects.change("one", edit)
    assert projects.get("one") == before


def test_a_changed_document_has_its_time_on_the_disk(projects, context):
    projects.add("one", projects.new("one"))
    assert projects.change("one", lambda document: document.update(ProjectStatus="Pending"))
    written = json.loads((context.state / "sagemaker/projects/one.json").read_text())
    assert written["ProjectStatus"] == "Pending"
    assert "LastModifiedTime" in written


def test_a_kind_is_opened_once(context, projects):
    assert context.kinds == {"Project": projects}
    with pytest.raises(AssertionError):
        context.resources(PROJECT)


def test_only_a_job_of_the_kind_tells_its_stages(jobs):
    """This kind notes none: the document changes with the status alone."""
    record = add_job(jobs)
    before = record.document
    record.enter(Stage.DOWNLOADING)
    assert record.document == before
    record.enter(Stage.STOPPING)
    assert record.status is Status.STOPPING


@pytest.mark.parametrize("stage", [Stage.STARTING, Stage.RUNNING, Stage.INTERRUPTED])
def test_a_stopping_job_does_not_run_again(jobs, stage):
    record = add_job(jobs, status="Stopping")
    record.enter(stage, Progress=1)
    assert "Progress" not in record.document
    record.enter(Stage.STOPPED)
    assert record.status is Status.STOPPED


def test_an_ended_job_does_not_change(jobs):
    record = add_job(jobs, status="Completed")
    record.fail("too late")
    record.enter(Stage.STOPPING)
    assert record.status is Status.COMPLETED
    assert "FailureReason" not in record.document


def test_a_job_begins_its_time_once(jobs):
    record = add_job(jobs)
    record.begin_time()
    began = record.document["TransformStartTime"]
    record.begin_time()
    assert record.document["TransformStartTime"] == began


@pytest.mark.parametrize("status", [*Status])
def test_which_states_end_a_job(status):
    ended = job_subject("TransformJob").has_ended({"TransformJobStatus": status.value})
    assert ended is (status in {Status.COMPLETED, Status.FAILED, Status.STOPPED})


def published(context):
    """Return the events that were published, without the bus."""
    found = []
    while not context.events._queue.empty():
        found.append(context.events._queue.get())
    return found


def test_each_state_is_an_event(context):
    jobs = context.resources(dataclasses.replace(JOB, event=state_changes.TRANSFORM_JOB))
    document = jobs.new("one", TransformJobStatus="InProgress", Private="x")
    jobs.add("one", document, [{"Key": "k", "Value": "v"}])
    jobs.change("one", lambda document: document.update(ModelName="m"))
    jobs.change("one", lambda document: document.update(TransformJobStatus="Failed"))
    jobs.remove("one")
    events = published(context)
    assert [event.detail["TransformJobStatus"] for event in events] == ["InProgress", "Failed"]
    assert events[1].detail["ModelName"] == "m"
    assert events[0].detail["Tags"] == {"k": "v"}
    assert "Private" not in events[0].detail
    assert events[0].detail_type == "SageMaker Transform Job State Change"
    assert events[0].resources == (jobs.arn("one"),)


def test_what_has_no_status_has_an_event_when_it_is_made_and_when_it_is_removed(context):
    models = context.resources(MODEL)
    models.add("one", models.new("one"))
    models.remove("one")
    made, removed = published(context)
    assert made.detail == removed.detail
    assert made.detail["ModelName"] == "one"


def test_an_event_that_fails_stops_no_change(context, caplog, monkeypatch):
    models = context.resources(MODEL)
    monkeypatch.setattr(context.events, "publish", None)
    models.add("one", models.new("one"))
    assert "one" in models
    assert "the event of a model is lost" in caplog.text


def test_a_kind_without_a_detail_type_has_no_events(context, projects):
    projects.add("one", projects.new("one"))
    assert published(context) == []


def test_a_removal_that_fails_leaves_everything(projects, monkeypatch):
    """The tags, too, and no event tells of it."""
    projects.add("one", projects.new("one"), [{"Key": "team", "Value": "a"}])

    def fail(_name):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(projects.records, "remove", fail)
    with pytest.raises(OSError, match="Read-only"):
        projects.remove("one")
    assert projects.tags.get(projects.arn("one")) == {"team": "a"}
    assert "one" in projects


def test_a_read_does_not_wait_for_the_disk(projects, monkeypatch):
    """Reads are made on the event loop. They see the document before."""
    projects.add("one", projects.new("one", ProjectStatus="Pending"))
    write, is_writing, go = records.write_atomically, threading.Event(), threading.Event()

    def slow(*words):
        is_writing.set()
        assert go.wait(30)
        write(*words)

    monkeypatch.setattr(records, "write_atomically", slow)

    def edit(document):
        document["ProjectStatus"] = "CreateCompleted"

    changing = threading.Thread(target=projects.change, args=("one", edit))
    changing.start()
    assert is_writing.wait(30)
    seen = projects.status("one")
    go.set()
    changing.join(30)
    assert (seen, projects.status("one")) == ("Pending", "CreateCompleted")


@pytest.mark.parametrize(
    ("kind", "order", "page"),
    [
        (TRAINING_JOB, "Ascending", 10),
        (PROCESSING_JOB, "Ascending", 10),
        (TRANSFORM_JOB, "Descending", 10),
        (ENDPOINT, "Descending", 10),
        (GROUP, "Ascending", 100),
        (PACKAGE, "Ascending", 100),
    ],
)
def test_the_defaults_of_lists_are_those_of_the_service_model(kind, order, page):
    assert (kind.order, kind.page) == (order, page)
    members = models.service_model("sagemaker").operation_model(f"List{kind.member}s").input_shape
    documented = members.members["SortOrder"].documentation
    if "default" in documented:
        assert f"<code>{order}</code>" in documented
