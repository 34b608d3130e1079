"""The stacks that checkers are asked of: with the template's defaults, and with everything on that makes one safer and
dearer."""

from __future__ import annotations

SMALLEST: dict[str, str] = {}
EVERYTHING = {
    "AlarmEmail": "ops@example.com",
    "Authorization": "JWT",
    "BatchWindowSeconds": "5",
    "CorsAllowOrigins": "https://shop.example",
    "CustomerKey": "yes",
    "DetailedMetrics": "on",
    "JwtAudience": "shop",
    "JwtIssuer": "https://issuer.example",
    "LogRetentionDays": "365",
    "Metrics": "on",
    "OrderedWorkloads": "transactions",
    "OwnQueues": "orders",
    "ReceiverReserved": "100",
    "ReserveConcurrency": "yes",
    "ReservedProcessors": "40",
    "SecretArn": "arn:aws:secretsmanager:us-east-1:123456789012:secret:shop-AbCdEf",
    "TableWarmWrites": "8000",
    "TrafficBefore": "0.1",
    "XRay": "on",
}
STACKS = {"defaults": SMALLEST, "everything": EVERYTHING}
