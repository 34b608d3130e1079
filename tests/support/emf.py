"""Lines of CloudWatch's Embedded Metric Format: held to the schema that its specification publishes, and read as
CloudWatch does. For tests only."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "tests/support/emf.schema.json"
_VALIDATE = """
import json, sys, jsonschema
validator = jsonschema.validators.validator_for(schema := json.load(open(sys.argv[1])))(schema)
for line in sys.stdin:
    validator.validate(json.loads(line))
"""


def validate(written: Sequence[str]) -> None:
    """By jsonschema, which checkov's environment has."""
    done = subprocess.run(
        [ROOT / ".venv-checkov/bin/python", "-c", _VALIDATE, SCHEMA],
        input="\n".join(written),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def extracted(written: Sequence[str]) -> dict[tuple[str, str], list[float]]:
    """What CloudWatch makes of them, as the specification says: of each metric, with each DimensionSet's values, the
    values."""
    found: dict[tuple[str, str], list[float]] = {}
    for line in written:
        assert "\n" not in line
        assert len(line.encode()) < 256 * 1024
        document = json.loads(line)
        for directive in document["_aws"]["CloudWatchMetrics"]:
            assert len(directive["Metrics"]) <= 100
            for metric in directive["Metrics"]:
                value = document[metric["Name"]]
                values = value if isinstance(value, list) else [value]
                assert 0 < len(values) <= 100
                for dimensions in directive["Dimensions"]:
                    named = ",".join(f"{name}={document[name]}" for name in dimensions)
                    found.setdefault((metric["Name"], named), []).extend(values)
    return found
