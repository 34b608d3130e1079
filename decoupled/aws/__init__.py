"""AWS: SQS and DynamoDB behind the protocols of `decoupled.engine`. The only room that imports boto3."""
