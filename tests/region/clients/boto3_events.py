"""React to a job's events with boto3: an API destination, a rule, its targets, own events.

Argument: an image with a shell. Prints what the web hook and the log group got, as JSON.
"""

import json
import os
import queue
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import boto3
from botocore.exceptions import WaiterError

IMAGE = sys.argv[1]
ROLE = os.environ["SAGEMAKER_ROLE"]
NAME = f"events-{os.getpid()}"
GROUP = f"/aws/events/{NAME}"
got = queue.Queue()


class Hook(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        got.put((self.path, self.headers["X-Api-Key"], json.loads(body)))
        self.send_response(204)
        self.end_headers()


server = HTTPServer(("127.0.0.1", 0), Hook)
Thread(target=server.serve_forever, daemon=True).start()

events = boto3.client("events")
sagemaker = boto3.client("sagemaker")
connection = events.create_connection(
    Name=NAME,
    AuthorizationType="API_KEY",
    AuthParameters={"ApiKeyAuthParameters": {"ApiKeyName": "x-api-key", "ApiKeyValue": "secret"}},
)
destination = events.create_api_destination(
    Name=NAME,
    ConnectionArn=connection["ConnectionArn"],
    InvocationEndpoint=f"http://127.0.0.1:{server.server_port}/hook",
    HttpMethod="POST",
)
account = boto3.client("sts").get_caller_identity()["Account"]
group_arn = f"arn:aws:logs:{boto3.Session().region_name}:{account}:log-group:{GROUP}"
pattern = {
    "source": ["aws.sagemaker"],
    "detail-type": ["SageMaker Processing Job State Change"],
    "detail": {
        "ProcessingJobName": [{"prefix": NAME}],
        "ProcessingJobStatus": [{"anything-but": "InProgress"}],
    },
}
events.put_rule(Name=NAME, EventPattern=json.dumps(pattern), State="ENABLED")
transformer = {
    "InputPathsMap": {
        "job": "$.detail.ProcessingJobName",
        "status": "$.detail.ProcessingJobStatus",
    },
    "InputTemplate": '{"text": "<job> is <status>", "rule": <aws.events.rule-name>}',
}
failed = events.put_targets(
    Rule=NAME,
    Targets=[
        {
            "Id": "hook",
            "Arn": destination["ApiDestinationArn"],
            "RoleArn": ROLE,
            "InputTransformer": transformer,
            "RetryPolicy": {"MaximumRetryAttempts": 2, "MaximumEventAgeInSeconds": 60},
        },
        {"Id": "logs", "Arn": group_arn},
    ],
)
assert failed["FailedEntryCount"] == 0, failed


def run(job, *command):
    sagemaker.create_processing_job(
        ProcessingJobName=job,
        RoleArn=ROLE,
        AppSpecification={"ImageUri": IMAGE, "ContainerEntrypoint": [*command]},
        ProcessingResources={
            "ClusterConfig": {
                "InstanceCount": 1,
                "InstanceType": "ml.m5.large",
                "VolumeSizeInGB": 1,
            }
        },
        Tags=[{"Key": "team", "Value": "blue"}],
    )
    sagemaker.get_waiter("processing_job_completed_or_stopped").wait(ProcessingJobName=job)


run(f"{NAME}-good", "true")
hooks = [got.get(timeout=60)]
try:
    run(f"{NAME}-bad", "false")
except WaiterError as error:  # the job has failed
    print(error)
hooks.append(got.get(timeout=60))

logs = boto3.client("logs")
for _ in range(100):
    lines = logs.filter_log_events(logGroupName=GROUP)["events"]
    if len(lines) == 2:
        break
    time.sleep(0.1)

own = events.put_events(
    Entries=[{"Source": "my.pipeline", "DetailType": "done", "Detail": json.dumps({"rows": 3})}]
)
matches = events.test_event_pattern(EventPattern=json.dumps(pattern), Event=lines[0]["message"])[
    "Result"
]

rules = events.list_rule_names_by_target(TargetArn=group_arn)["RuleNames"]
ids = [each["Id"] for each in events.list_targets_by_rule(Rule=NAME)["Targets"]]
events.remove_targets(Rule=NAME, Ids=ids)
events.delete_rule(Name=NAME)
events.delete_api_destination(Name=NAME)
events.delete_connection(Name=NAME)
print(
    json.dumps(
        {
            "hooks": hooks,
            "logged": [json.loads(line["message"]) for line in lines],
            "put": own["FailedEntryCount"],
            "matches": matches,
            "rules": rules == [NAME],
            "left": len(events.list_rules(NamePrefix=NAME)["Rules"]),
        }
    )
)
