"""The stacks that checkers are asked of: with the template's defaults, and with everything on that makes one safer and
dearer."""

from __future__ import annotations

SMALLEST: dict[str, str] = {}
EVERYTHING = {
    "AlarmEmail": "ops@example.com",
    "Authorization": "JWT",
    "CorsAllowOrigins": "https://shop.example",
    "CustomerKey": "yes",
    "JwtAudience": "shop",
    "JwtIssuer": "https://issuer.example",
    "LogRetentionDays": "365",
    "Metrics": "on",
    "OrderedWorkloads": "transactions",
}
STACKS = {"defaults": SMALLEST, "everything": EVERYTHING}
