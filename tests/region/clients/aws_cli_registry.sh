#!/bin/sh
# What a person types with the AWS CLI: a group, its versions, approvals, searches, a policy, an end.
# Arguments: image for serving. Prints the approval statuses that Search finds, as JSON.
set -eu
image=$1
group=digits-cli-$$
export AWS_PAGER=""
sagemaker() { aws sagemaker "$@"; }

sagemaker create-model-package-group --model-package-group-name "$group" \
  --model-package-group-description "of the command line" --tags Key=team,Value=red >&2
for number in 1 2; do
  arn=$(sagemaker create-model-package --model-package-group-name "$group" \
    --model-package-description "number $number" \
    --inference-specification "{\"Containers\":[{\"Image\":\"$image\"}],
      \"SupportedContentTypes\":[\"text/csv\"],\"SupportedResponseMIMETypes\":[\"text/csv\"]}" \
    --query ModelPackageArn --output text)
done
sagemaker update-model-package --model-package-arn "$arn" --model-approval-status Approved >&2
sagemaker describe-model-package --model-package-name "$arn" >&2
sagemaker batch-describe-model-package --model-package-arn-list "$arn" "${arn}9" >&2
sagemaker list-model-packages --model-package-group-name "$group" \
  --model-approval-status Approved --query "ModelPackageSummaryList[].ModelPackageVersion" >&2
sagemaker list-tags --resource-arn "$(sagemaker describe-model-package-group \
  --model-package-group-name "$group" --query ModelPackageGroupArn --output text)" >&2
sagemaker put-model-package-group-policy --model-package-group-name "$group" \
  --resource-policy '{"Version":"2012-10-17","Statement":[]}' >&2
sagemaker get-model-package-group-policy --model-package-group-name "$group" >&2
sagemaker delete-model-package-group-policy --model-package-group-name "$group" >&2
found=$(sagemaker search --resource ModelPackage --sort-by CreationTime --sort-order Ascending \
  --search-expression "Filters=[{Name=ModelPackageGroupName,Operator=Equals,Value=$group}]" \
  --query "Results[].ModelPackage.ModelApprovalStatus" --output json)
if sagemaker delete-model-package-group --model-package-group-name "$group" 2>/dev/null; then
  echo "a group with versions was deleted" >&2
  exit 1
fi
for version in 1 2; do
  sagemaker delete-model-package --model-package-name "${arn%/*}/$version"
done
sagemaker delete-model-package-group --model-package-group-name "$group"
sagemaker list-model-package-groups --name-contains "$group" >&2
echo "$found" | tr -d '\n'
echo
