"""What the document says of a stack on AWS, held to the functions themselves, behind a gateway that makes events."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from decoupled.core import limits
from decoupled.pipeline import receiver
from decoupled.pipeline.loading import load
from decoupled.pipeline.openapi.document import document
from tests.support import api_tools, stack
from tests.support.engines import AwsEngine
from tests.support.server import TRIAL

SEATS = str(TRIAL / "workloads/seats.py")
WORKLOADS = load(["readings", SEATS, f"{SEATS}:RELEASES"])


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A thousand schedules take moto longer than a client waits."""
    monkeypatch.setattr(limits, "MAX_BATCH_ENTRIES", 25)
    receiver._batch_decoder.cache_clear()
    yield
    receiver._batch_decoder.cache_clear()


def test_the_functions_do_what_the_document_says(moto_engine: AwsEngine, tmp_path: Path) -> None:
    with stack.serving(moto_engine, WORKLOADS) as url:
        made = document(WORKLOADS, url, "NONE")
        api_tools.validate(made, tmp_path)
        # What is no route, the gateway answers with 404 and not with 405. Of another entry under the same key, the GET
        # after the 202 tells, with 422.
        unlike_a_server = ("unsupported_method", "allow_header_conformance", "ensure_resource_availability")
        shown = api_tools.conforms(made, url, tmp_path, 8, "--exclude-checks", ",".join(unlike_a_server))
    assert "Tested: 8\n" in shown
