"""Lambda's entry points: API Gateway → receiver → SQS → processor → DynamoDB ← status ← API Gateway."""
