#!/bin/sh
# An image into the region's ECR, with the AWS CLI and the Docker client as AWS's pages show it.
# Arguments: a local image, the account's registry. Prints the digest that ECR has.
set -eu
image=$1 registry=$2
repository=cli-ecr-$$
DOCKER=${DOCKER:-docker} AWS_PAGER="" DOCKER_CONFIG=$(mktemp -d)
export AWS_PAGER DOCKER_CONFIG
trap 'rm -rf "$DOCKER_CONFIG"' EXIT

aws ecr create-repository --repository-name "$repository" >&2
aws ecr get-login-password | "$DOCKER" login --username AWS --password-stdin "$registry" >&2
"$DOCKER" tag "$image" "$registry/$repository:1"
"$DOCKER" push "$registry/$repository:1" >&2
"$DOCKER" rmi "$registry/$repository:1" >&2
"$DOCKER" pull "$registry/$repository:1" >&2
"$DOCKER" rmi "$registry/$repository:1" >&2
aws ecr describe-images --repository-name "$repository" --query "imageDetails[0]" --output json |
  tr -d "\n"
