#!/usr/bin/env bash
# Builds, uploads and deploys templates/decoupled-architecture.yaml as a stack, and prints its outputs.
#
#   scripts/deploy.sh STACK [Parameter=Value ...]
#   scripts/deploy.sh shop Workloads=orders,notifications AlarmEmail=oncall@example.com
#
# The AWS CLI does the work, with its usual settings: AWS_PROFILE, AWS_REGION, ... Parameters that are not given keep what
# they are, or their defaults. CODE_BUCKET names the bucket for the code; by default one is made for the account.
# With AWS_ENDPOINT_URL on this machine (an emulator, which runs functions here) it builds for this machine.
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -ge 1 ] && [[ $1 != -* ]] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
stack=$1
shift

if ! command -v aws > /dev/null; then
  make --silent aws-tools
  PATH=$PWD/.venv-aws-tools/bin:$PATH
fi
export AWS_PAGER=""
region=${AWS_REGION:-${AWS_DEFAULT_REGION:-$(aws configure get region || true)}}
[ -n "$region" ] || { echo "deploy.sh: no Region: set AWS_REGION, or run aws configure" >&2; exit 2; }
export AWS_REGION=$region AWS_DEFAULT_REGION=$region
account=$(aws sts get-caller-identity --query Account --output text)

echo "== Build"
platform=lambda
case ${AWS_ENDPOINT_URL:-} in http://127.0.0.1* | http://localhost* | http://\[::1\]*) platform=local ;; esac
zip=build/lambda-$platform.zip
scripts/build.sh --platform "$platform" --output "$zip"

echo "== Upload"
bucket=${CODE_BUCKET:-decoupled-code-$account-$region}
if ! aws s3api head-bucket --bucket "$bucket" > /dev/null 2>&1; then
  aws s3 mb "s3://$bucket"
  aws s3api put-public-access-block --bucket "$bucket" --public-access-block-configuration \
    BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true,RestrictPublicBuckets=true
fi
key=$stack/$(.venv/bin/python -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest()[:32])' "$zip").zip
aws s3 cp --only-show-errors "$zip" "s3://$bucket/$key"
echo "s3://$bucket/$key"

echo "== Deploy $stack to $account in $region"
events() { # what happened since the deployment began, oldest first
  aws cloudformation describe-stack-events --stack-name "$stack" --output text --query \
    "reverse(StackEvents[?Timestamp>=\`$began\`].[Timestamp,ResourceStatus,LogicalResourceId,ResourceStatusReason])" \
    2> /dev/null || true
}
began=$(date -u +%Y-%m-%dT%H:%M:%S)
aws cloudformation deploy --stack-name "$stack" --template-file templates/decoupled-architecture.yaml \
  --s3-bucket "$bucket" --s3-prefix "$stack" --capabilities CAPABILITY_IAM --no-fail-on-empty-changeset \
  --parameter-overrides "CodeBucket=$bucket" "CodeKey=$key" "$@" &
deployment=$!
shown=0
while kill -0 "$deployment" 2> /dev/null; do
  sleep 2
  lines=$(events)
  [ -z "$lines" ] || printf '%s\n' "$lines" | tail -n "+$((shown + 1))"
  shown=$(printf '%s' "$lines" | grep -c '' || true)
done
wait "$deployment" || { echo "deploy.sh: the deployment of $stack failed; CloudFormation went back to what was" >&2; exit 1; }
events | tail -n "+$((shown + 1))"

if [ "$platform" = local ]; then
  # MiniStack 1.5 keeps the parameter's number as text, and its poller stops at that. CloudFormation makes it a number.
  ceiling=$(aws cloudformation describe-stacks --stack-name "$stack" --output text \
    --query "Stacks[0].Parameters[?ParameterKey=='MaximumConcurrency'].ParameterValue")
  mapping=$(aws cloudformation describe-stack-resource --stack-name "$stack" --logical-resource-id Mapping \
    --output text --query StackResourceDetail.PhysicalResourceId)
  aws lambda update-event-source-mapping --uuid "$mapping" --scaling-config "MaximumConcurrency=$ceiling" > /dev/null
fi

echo "== $stack"
aws cloudformation describe-stacks --stack-name "$stack" --output text \
  --query 'Stacks[0].Outputs[].[OutputKey,OutputValue]' | sort
