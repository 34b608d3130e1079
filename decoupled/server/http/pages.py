"""What a front answers by itself about the API: the OpenAPI document, and a page that shows it. All of it is made at
start; RapiDoc, which draws the page in the browser, is a file beside this one (docs/, with its license)."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import msgspec

from decoupled.core.problem import Response
from decoupled.core.workload import Workloads
from decoupled.pipeline.openapi.document import document
from decoupled.server.http.routes import DOCS, DOCUMENT, RENDERER

_DIRECTORY = Path(__file__).parent / "docs"
# The page runs our file and no other script, asks this server only, and stands in nobody's frame. RapiDoc sets styles
# on its elements, which is all that `unsafe-inline` allows here.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src 'self' data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def pages(workloads: Workloads, auth: Collection[str]) -> dict[str, Response]:
    """By their paths; `auth`: the kinds of proof that callers are asked for. Raises OSError when a file is missing."""
    return {
        DOCUMENT: _page(msgspec.json.encode(document(workloads, auth=auth)), "application/json", "no-cache"),
        DOCS: _page((_DIRECTORY / "index.html").read_bytes(), "text/html; charset=utf-8", "no-cache"),
        RENDERER: _page(  # its name has its version: what is under it never changes
            (_DIRECTORY / Path(RENDERER).name).read_bytes(),
            "text/javascript; charset=utf-8",
            "public, max-age=31536000, immutable",
        ),
    }


def _page(body: bytes, media_type: str, cache: str) -> Response:
    headers = {"content-type": media_type, "cache-control": cache, "x-content-type-options": "nosniff"}
    return Response(200, headers | ({"content-security-policy": _POLICY} if "html" in media_type else {}), body)
