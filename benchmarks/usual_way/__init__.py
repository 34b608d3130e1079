"""The same three functions as their tutorials write them: Powertools for AWS with its router, parser, batch processor
and idempotency, boto3 underneath. Only what `benchmarks/lambda_bench.py` measures against; nothing of the product."""
