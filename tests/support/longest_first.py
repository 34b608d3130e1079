"""The order in which `make test` begins the files: the longest first, so that none is begun last and all wait for it. A
file that has become long and is not here costs a minute at most; none is run twice, or not at all. For tests only."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

# What takes a minute or more of two busy processors, the longest first.
LONGEST = (
    "simulation/test_simulation.py",
    "aws/test_side_by_side.py",
    "aws/test_moving_deployed.py",
    "aws/test_deployment.py",
    "documents/test_on_call.py",
    "aws/test_signed_ids_deployed.py",
    "documents/test_installed.py",
    "aws/test_build.py",
    "server/test_callbacks.py",
    "server/test_replica.py",
    "server/test_moving.py",
    "server/test_forgetting.py",
    "server/test_streams.py",
    "server/test_openapi.py",
    "server/test_crash.py",
    "documents/test_make.py",
    "server/test_outage.py",
    "aws/test_ordered_deployment.py",
    "server/test_renewal.py",
    "server/test_quotas.py",
    "aws/test_dashboard_aws.py",
    "server/test_tokens.py",
    "simulation/test_order.py",
    "documents/test_workloads_script.py",
)
# Then the folders, of which the last have the shortest files.
FOLDERS = ("aws", "simulation", "browser", "server", "documents", "contract", "unit")


def longest_first(items: list[pytest.Item]) -> None:
    """Sort them by their files; those of one file stay as they are."""
    items.sort(key=_place)


def _place(item: pytest.Item) -> tuple[int, int, str]:
    name = item.path.relative_to(TESTS).as_posix()
    folder = name.partition("/")[0]
    return (
        LONGEST.index(name) if name in LONGEST else len(LONGEST),
        FOLDERS.index(folder) if folder in FOLDERS else len(FOLDERS),
        name,
    )
