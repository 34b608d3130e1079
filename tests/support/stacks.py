"""The stacks that checkers are asked of: with the template's defaults, and with everything on that makes one safer and
dearer."""

from __future__ import annotations

SMALLEST: dict[str, str] = {}
EVERYTHING = {
    "AlarmEmail": "ops@example.com",
    "Authorization": "JWT",
    "BatchWindowSeconds": "5",
    "CertificateArn": "arn:aws:acm:us-east-1:123456789012:certificate/12345678-1234-1234-1234-123456789012",
    "CorsAllowOrigins": "https://shop.example",
    "CustomerKey": "yes",
    "DefaultEndpoint": "no",
    "DetailedMetrics": "on",
    "DomainName": "api.shop.example",
    "JwtAudience": "shop",
    "JwtIssuer": "https://issuer.example",
    "JwtScopes": "orders.write",
    "LogRetentionDays": "365",
    "Metrics": "on",
    "OrderedWorkloads": "transactions",
    "OwnQueues": "orders",
    "PermissionsBoundary": "arn:aws:iam::123456789012:policy/bound",
    "ReceiverReserved": "100",
    "ReserveConcurrency": "yes",
    "ReservedProcessors": "40",
    "SecretArn": "arn:aws:secretsmanager:us-east-1:123456789012:secret:shop-AbCdEf",
    "SecurityGroupIds": "sg-12345678",
    "SubnetIds": "subnet-12345678,subnet-87654321",
    "TableWarmWrites": "8000",
    "TrafficBefore": "0.1",
    "XRay": "on",
}
STACKS = {"defaults": SMALLEST, "everything": EVERYTHING}
