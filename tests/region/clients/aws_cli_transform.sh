#!/bin/sh
# What a person types with the AWS CLI: a transform job, its end, its log and output; one that is
# stopped. Arguments: image for serving. Prints the output, as JSON.
set -eu
image=$1
name=transform-cli-$$
export AWS_PAGER=""
sagemaker() { aws sagemaker "$@"; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir "$work/code"
cat > "$work/code/inference.py" <<'PROGRAM'
import time
def model_fn(model_dir): return None
def input_fn(body, content_type): return body.decode() if isinstance(body, bytes) else body
def predict_fn(text, model):
    if text.startswith("slow"): time.sleep(300)
    return text.upper()
def output_fn(prediction, accept): return prediction, "text/csv"
PROGRAM
tar -czf "$work/model.tar.gz" -C "$work" code
aws s3 mb "s3://$name" >&2
aws s3 cp "$work/model.tar.gz" "s3://$name/" --no-progress >&2
printf 'a,b\nc,d\n' | gzip | aws s3 cp - "s3://$name/in/rows.csv.gz"
printf 'slow\n' | aws s3 cp - "s3://$name/slow/rows.csv"
sagemaker create-model --model-name "$name" --execution-role-arn "$SAGEMAKER_ROLE" \
  --primary-container "Image=$image,ModelDataUrl=s3://$name/model.tar.gz" >&2

job() { # NAME PREFIX COMPRESSION
  sagemaker create-transform-job --transform-job-name "$1" --model-name "$name" \
    --transform-input "{\"DataSource\":{\"S3DataSource\":{\"S3DataType\":\"S3Prefix\",
      \"S3Uri\":\"s3://$name/$2\"}},\"ContentType\":\"text/csv\",\"SplitType\":\"Line\",
      \"CompressionType\":\"$3\"}" \
    --transform-output "S3OutputPath=s3://$name/out,AssembleWith=Line,Accept=text/csv" \
    --transform-resources InstanceType=ml.m5.large,InstanceCount=1 \
    --batch-strategy SingleRecord --max-concurrent-transforms 2 --max-payload-in-mb 1 \
    --tags Key=team,Value=blue >&2
}
job "$name-1" in/ Gzip
job "$name-2" slow/ None
sagemaker wait transform-job-completed-or-stopped --transform-job-name "$name-1"
sagemaker describe-transform-job --transform-job-name "$name-1" >&2
sagemaker stop-transform-job --transform-job-name "$name-2"
sagemaker wait transform-job-completed-or-stopped --transform-job-name "$name-2"
[ "$(sagemaker list-transform-jobs --name-contains "$name" --status-equals Stopped \
  --query "TransformJobSummaries[].TransformJobName" --output text)" = "$name-2" ]
aws logs filter-log-events --log-group-name /aws/sagemaker/TransformJobs \
  --log-stream-name-prefix "$name-1/" --query "events[].message" --output text >&2
aws s3 ls --recursive "s3://$name/out" >&2
aws s3 cp "s3://$name/out/rows.csv.gz.out" "$work/out" --no-progress >&2
sed 's/.*/"&"/' "$work/out" | paste -sd, - | sed 's/.*/[&]/'
