"""What the options of a server say of its page: read where the options are, which is no place for HTTP. Pure."""

from __future__ import annotations

from decoupled.dashboard.access import Rules
from decoupled.server.options import Options


def rules_of(options: Options) -> Rules:
    """Who may see the page of a server with these options, and who may change something."""
    return Rules(
        open=not options.proofs,
        hosts=None if options.insecure else (options.host.lower(),),
        keys="keys" in options.auth,
        operators=options.operators,
        secure=options.tls_cert is not None,
        page=options.page == "on",
    )
