"""URLs that clients name, to be posted to: what they consist of, and whom they are for. Pure: where a name leads, only
DNS knows, and it is asked when something is posted (`outbound/webhook.py`)."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit


def parts(url: str) -> SplitResult:
    """What a URL consists of. Raises ValueError for what cannot be posted to."""
    if not _VISIBLE.fullmatch(url):
        raise ValueError("a URL is visible ASCII characters")
    found = urlsplit(url)
    if found.scheme not in ("http", "https") or not found.hostname or found.port == 0:
        raise ValueError("a URL is http:// or https:// with a host")
    if found.username is not None or found.fragment:
        raise ValueError("a URL with neither user nor fragment is needed")
    return found


def host(url: str) -> str:
    """Whom it is for, of a URL that `parts` takes."""
    return urlsplit(url).hostname or ""


_VISIBLE = re.compile("[!-~]*")
