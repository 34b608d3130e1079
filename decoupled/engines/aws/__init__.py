"""The engine on AWS: Queue on SQS (`sqs.py`), Table on DynamoDB (`dynamodb.py`). The only package that imports AWS's
client; each function loads only the half that it needs."""
