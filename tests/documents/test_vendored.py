"""What others wrote and we ship stands in the tree as they published it, with its license."""

from __future__ import annotations

import hashlib
import tomllib

import pytest

from tests.support.server import ROOT

PAGE = "decoupled/dashboard/page"
# Of uplot 1.6.32 on registry.npmjs.org: dist/uPlot.iife.min.js, dist/uPlot.min.css, LICENSE.
PUBLISHED = {
    f"{PAGE}/uplot-1.6.32.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    f"{PAGE}/uplot-1.6.32.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    f"{PAGE}/LICENSE.uplot.txt": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
    # Of github.com/aws-cloudformation/aws-guard-rules-registry, as its first lines say; for tests only.
    "tests/support/guard/registry.guard": "94b93b59c7543746af55211fc6b45dbbebbe080c91f20faf3e1ba79808de9b6f",
    "tests/support/guard/LICENSE.registry.txt": "09e8a9bcec8067104652c168685ab0931e7868f9c8284b66f5ae6edae5f1130b",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_it_is_what_was_published(name: str) -> None:
    assert hashlib.sha256((ROOT / name).read_bytes()).hexdigest() == PUBLISHED[name]


def test_its_license_goes_with_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"{PAGE}/LICENSE.uplot.txt" in project["license-files"]
