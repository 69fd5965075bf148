#!/bin/sh
# What a person types with the AWS CLI: data up, a job, its log, its model, an endpoint, an answer.
# Arguments: image for training, image for serving, folder with train/ and test/. Prints the answer.
set -eu
train_image=$1 serve_image=$2 data=$3
job=digits-cli-$$
bucket=cli-$$
export AWS_PAGER=""

aws s3 mb "s3://$bucket" >&2
aws s3 sync "$data" "s3://$bucket/digits" --no-progress >&2
aws s3 ls --recursive "s3://$bucket" >&2

channel() {
  printf '{"ChannelName":"%s","DataSource":{"S3DataSource":{"S3DataType":"S3Prefix","S3Uri":"s3://%s/digits/%s/"}}}' \
    "$1" "$bucket" "$1"
}
aws sagemaker create-training-job --training-job-name "$job" --role-arn "$SAGEMAKER_ROLE" \
  --algorithm-specification "TrainingImage=$train_image,TrainingInputMode=File" \
  --input-data-config "[$(channel train),$(channel test)]" \
  --output-data-config "S3OutputPath=s3://$bucket/jobs" \
  --resource-config InstanceType=ml.m5.large,InstanceCount=1,VolumeSizeInGB=10 \
  --stopping-condition MaxRuntimeInSeconds=300 --hyper-parameters epochs=2 >&2
aws sagemaker wait training-job-completed-or-stopped --training-job-name "$job"
status=$(aws sagemaker describe-training-job --training-job-name "$job" \
  --query TrainingJobStatus --output text)
[ "$status" = Completed ] || { echo "the job is $status" >&2; exit 1; }
found=$(aws sagemaker search --resource TrainingJob --search-expression \
  "Filters=[{Name=TrainingJobName,Operator=Equals,Value=$job},{Name=Metrics.none,Operator=NotExists}]" \
  --query "Results[].TrainingJob.TrainingJobStatus" --output text)
[ "$found" = Completed ] || { echo "Search finds $found" >&2; exit 1; }
aws logs filter-log-events --log-group-name /aws/sagemaker/TrainingJobs \
  --log-stream-name-prefix "$job/" --query "events[].message" --output text >&2

model=$(aws sagemaker describe-training-job --training-job-name "$job" \
  --query ModelArtifacts.S3ModelArtifacts --output text)
aws s3 cp "$model" - | tar --list --gzip --file - >&2
aws sagemaker create-model --model-name "$job" --execution-role-arn "$SAGEMAKER_ROLE" \
  --primary-container "Image=$serve_image,ModelDataUrl=$model" >&2
aws sagemaker create-endpoint-config --endpoint-config-name "$job" --production-variants \
  "VariantName=a,ModelName=$job,InitialInstanceCount=1,InstanceType=ml.m5.large" >&2
aws sagemaker create-endpoint --endpoint-name "$job" --endpoint-config-name "$job" >&2
aws sagemaker wait endpoint-in-service --endpoint-name "$job"

answer=$(mktemp) body=$(mktemp)
head -n 1 "$data/test/digits.csv" | sed 's/^[^,]*,/[[/; s/$/]]/' > "$body"
aws sagemaker-runtime invoke-endpoint --endpoint-name "$job" --content-type application/json \
  --accept application/json --body "fileb://$body" "$answer" >&2
cat "$answer"
rm -f "$answer" "$body"
aws sagemaker delete-endpoint --endpoint-name "$job"
aws sagemaker wait endpoint-deleted --endpoint-name "$job"
aws s3 rb --force "s3://$bucket" >&2
