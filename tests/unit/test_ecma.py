"""Python's patterns for others: what is translated, what is not, and that ECMAScript takes it for the same."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest

from decoupled.pipeline.openapi.ecma import ecma

# A pattern, what it is for others, and texts that may match it.
CASES = [
    (r"^[a-z]{1,3}\Z", r"^[a-z]{1,3}$", ["ab", "abcd", "ab\n", ""]),
    (r"\A(?P<x>a|b)-(?P=x)\Z", r"^(?<x>a|b)-\k<x>$", ["a-a", "a-b"]),
    (r"^a++b*+c?+d{2}+\Z", r"^a+b*c?d{2}$", ["aabdd", "abcdd", "ad"]),
    (r"^a+?b??c{1,2}?\Z", r"^a+?b??c{1,2}?$", ["aabcc", "ac", "ab"]),
    (r"^a{,3}\Z", r"^a{0,3}$", ["", "aaa", "aaaa"]),
    (r"^a{x}]\Z", r"^a\{x\}\]$", ["a{x}]", "axxx"]),
    (r"^[]a\-\.]+\Z", r"^[\]a\-\.]+$", ["]a-.", "b"]),
    (r"^[^]\[@]+\Z", r"^[^\]\[@]+$", ["ab", "a]", "a["]),
    (r"^\"\@\_\-\ \Z", '^"@_- $', ['"@_- ', "x"]),
    (
        r"^\U0001f600\N{BULLET}[\U00010000-\U0010ffff]\Z",
        r"^\u{1f600}\u{2022}[\u{10000}-\u{10ffff}]$",
        ["😀•😀", "😀•a"],
    ),
    (r"^\x41\u0042\07\Z", r"^\x41\u0042\x07$", ["AB\x07", "AB"]),
    (r"^(a)\1\101[\101\7\a\b]\Z", r"^(a)\1\x41[\x41\x07\x07\b]$", ["aaAA", "aaA\x07", "aaA\x08", "aaAB"]),
    (r"(?#what)^(?:a(?=b)|(?<=c)d)", r"^(?:a(?=b)|(?<=c)d)", ["ab", "ac"]),
    (r"^[\d\s]+\.\w\Z", r"^[\d\s]+\.\w$", ["1 2.a", "12a"]),
]


@pytest.mark.parametrize(("pattern", "expected", "_texts"), CASES)
def test_a_pattern_is_translated(pattern: str, expected: str, _texts: list[str]) -> None:
    assert ecma(pattern) == expected


@pytest.mark.parametrize("pattern", [r"(?i)a", r"(?x: a b )", r"(a)?(?(1)b|c)"])
def test_what_others_do_not_have_is_not_translated(pattern: str) -> None:
    assert ecma(pattern) is None


def test_ecmascript_matches_what_python_matches() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node here, which has ECMAScript's own patterns")
    program = """
        const cases = JSON.parse(require("fs").readFileSync(0));
        console.log(JSON.stringify(cases.map(([p, texts]) => texts.map((t) => new RegExp(p, "u").test(t)))));
    """
    asked = json.dumps([(ecma(pattern), texts) for pattern, _, texts in CASES])
    done = subprocess.run([node, "-e", program], input=asked, capture_output=True, text=True, check=True, timeout=60)
    in_python = [[re.search(pattern, text) is not None for text in texts] for pattern, _, texts in CASES]
    assert json.loads(done.stdout) == in_python
    assert {found for each in in_python for found in each} == {True, False}
