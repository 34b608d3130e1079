#!/usr/bin/env bash
# Deletes a stack, and says what it leaves: the queues, the table and the key are kept, with all that is in them.
#
#   scripts/destroy.sh STACK [--yes]
#
# The AWS CLI does the work, with its usual settings. Without --yes it asks first.
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -ge 1 ] && [[ $1 != -* ]] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
stack=$1
if ! command -v aws > /dev/null; then
  make --silent aws-tools
  PATH=$PWD/.venv-aws-tools/bin:$PATH
fi
export AWS_PAGER=""
# For SQS alone, version 1 of the AWS CLI does not look at AWS_ENDPOINT_URL.
endpoint=(${AWS_ENDPOINT_URL:+--endpoint-url "$AWS_ENDPOINT_URL"})

physical() { # the names of the stack's resources of a type
  aws cloudformation describe-stack-resources --stack-name "$stack" --output text \
    --query "StackResources[?ResourceType=='$1'].PhysicalResourceId" | tr '\t' '\n'
}
queues=$(physical AWS::SQS::Queue)
tables=$(physical AWS::DynamoDB::Table)
keys=$(physical AWS::KMS::Key)

echo "Deleting $stack keeps, with all that is in them:"
for queue in $queues; do
  read -r waiting in_flight < <(aws sqs get-queue-attributes "${endpoint[@]}" --queue-url "$queue" --output text \
    --attribute-names ApproximateNumberOfMessages ApproximateNumberOfMessagesNotVisible \
    --query '[Attributes.ApproximateNumberOfMessages, Attributes.ApproximateNumberOfMessagesNotVisible]')
  echo "  queue  $queue  ($waiting waiting, $in_flight in flight)"
done
for table in $tables; do echo "  table  $table"; done
for key in $keys; do echo "  key    $key"; done
echo "Messages that still wait will not be processed: nothing takes them any more."

if [ "${2:-}" != --yes ]; then
  read -r -p "Delete the stack $stack? Type its name: " answer
  [ "$answer" = "$stack" ] || { echo "Nothing was deleted."; exit 1; }
fi

aws cloudformation delete-stack --stack-name "$stack"
aws cloudformation wait stack-delete-complete --stack-name "$stack"
echo "Deleted $stack. To delete for good what it kept:"
for queue in $queues; do echo "  aws sqs delete-queue --queue-url $queue"; done
for table in $tables; do
  echo "  aws dynamodb update-table --table-name $table --no-deletion-protection-enabled"
  echo "  aws dynamodb delete-table --table-name $table"
done
for key in $keys; do echo "  aws kms schedule-key-deletion --key-id $key"; done
