#!/usr/bin/env bash
# Builds the image and pushes it to ECR, whose repository it makes where there is none: build_and_push.sh ACCOUNT REGION TAG
set -euo pipefail

[ $# -eq 3 ] || {
    echo "usage: build_and_push.sh ACCOUNT REGION TAG, for example: build_and_push.sh 123456789012 us-east-1 0.1.0" >&2
    exit 2
}
registry=$1.dkr.ecr.$2.amazonaws.com
image=$registry/duologue:$3
for program in docker aws; do
    command -v "$program" >/dev/null || {
        echo "build_and_push.sh: $program is not here; install it and run again" >&2
        exit 1
    }
done
cd "$(dirname "$0")/.."

docker build --platform linux/amd64 --file sagemaker/Dockerfile --tag "$image" .
aws ecr describe-repositories --region "$2" --repository-names duologue >/dev/null 2>&1 ||
    aws ecr create-repository --region "$2" --repository-name duologue >/dev/null
aws ecr get-login-password --region "$2" | docker login --username AWS --password-stdin "$registry"
docker push "$image"
echo "image_uri: $image"
