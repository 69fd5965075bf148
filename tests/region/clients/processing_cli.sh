#!/bin/sh
# What a person types with the AWS CLI: data up, a job, its log and its output; a job that is stopped.
# Arguments: image, folder with CSV files, folder with the programs. Prints the job's ExitMessage.
set -eu
image=$1 data=$2 programs=$3
job=processing-cli-$$
bucket=processing-cli-$$
export AWS_PAGER=""

aws s3 mb "s3://$bucket" >&2
aws s3 sync "$data" "s3://$bucket/data" --no-progress >&2
aws s3 cp "$programs/split.py" "s3://$bucket/code/split.py" --no-progress >&2

input() {
  printf '{"InputName":"%s","S3Input":{"S3Uri":"s3://%s/%s","LocalPath":"/opt/ml/processing/input/%s","S3DataType":"S3Prefix","S3InputMode":"File"}}' \
    "$1" "$bucket" "$2" "$1"
}
output() {
  printf '{"OutputName":"%s","S3Output":{"S3Uri":"s3://%s/out/%s","LocalPath":"/opt/ml/processing/output/%s","S3UploadMode":"EndOfJob"}}' \
    "$1" "$bucket" "$1" "$1"
}
create() {
  name=$1
  shift
  aws sagemaker create-processing-job --processing-job-name "$name" --role-arn "$SAGEMAKER_ROLE" \
    --processing-resources 'ClusterConfig={InstanceCount=1,InstanceType=ml.m5.large,VolumeSizeInGB=1}' \
    --stopping-condition MaxRuntimeInSeconds=300 --environment STAGE=test "$@" >&2
}
status() {
  aws sagemaker wait processing-job-completed-or-stopped --processing-job-name "$1"
  aws sagemaker describe-processing-job --processing-job-name "$1" \
    --query ProcessingJobStatus --output text
}

create "$job-long" --app-specification "ImageUri=$image,ContainerEntrypoint=/bin/sleep,ContainerArguments=600"
create "$job" \
  --app-specification "{\"ImageUri\":\"$image\",\"ContainerEntrypoint\":[\"python3\",\"/opt/ml/processing/input/code/split.py\"],\"ContainerArguments\":[\"--ratio\",\"0.75\"]}" \
  --processing-inputs "[$(input data data/),$(input code code/split.py)]" \
  --processing-output-config "{\"Outputs\":[$(output train),$(output test)]}"
[ "$(status "$job")" = Completed ] || exit 1
aws logs filter-log-events --log-group-name /aws/sagemaker/ProcessingJobs \
  --log-stream-name-prefix "$job/" --query "events[].message" --output text >&2
aws s3 ls --recursive "s3://$bucket/out" >&2
aws sagemaker list-processing-jobs --name-contains "$job" --sort-by Name \
  --query "ProcessingJobSummaries[].ProcessingJobStatus" --output text >&2

aws sagemaker stop-processing-job --processing-job-name "$job-long"
[ "$(status "$job-long")" = Stopped ] || exit 1
aws s3 rb --force "s3://$bucket" >&2
aws sagemaker describe-processing-job --processing-job-name "$job" \
  --query ExitMessage --output text
