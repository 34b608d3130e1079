"""The page's colours, from the tokens of its style: what is read has WCAG AA's contrast on every ground that it may
stand on, in both schemes."""

from __future__ import annotations

import re

import pytest

from tests.support.page_server import PAGE

TEXTS = ("text", "muted", "accent", "ok", "warn", "bad", "unknown")
PLAIN = ("ground", "surface", "sunken")
# What a sign and the lines of a chart are told from their ground by, and the edges of what can be typed into: 3:1.
SHAPES = ("edge", "series-1", "series-2", "series-3", "series-4")


def tokens(dark: bool) -> dict[str, str]:
    """By their names; dark is what light is not told otherwise."""
    style = (PAGE / "app.css").read_text()
    light, rest = style.split("@media (prefers-color-scheme: dark)", 1)
    found = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", light))
    return found | (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", rest.split("}", 1)[0])) if dark else {})


def luminance(colour: str) -> float:
    """As WCAG 2.2 defines it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_what_is_read_can_be_read(dark: bool) -> None:
    of = tokens(dark)
    pairs = [(text, ground) for text in TEXTS for ground in PLAIN]
    pairs += [(text, f"{text}-ground") for text in ("ok", "warn", "bad", "unknown")]
    pairs += [("text", f"{state}-ground") for state in ("ok", "warn", "bad", "unknown")]
    pairs += [("muted", f"{state}-ground") for state in ("ok", "warn", "bad", "unknown")]
    pairs += [("on-accent", "accent")]
    faint = {pair: ratio for pair in pairs if (ratio := round(contrast(of[pair[0]], of[pair[1]]), 2)) < 4.5}
    assert faint == {}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_what_is_seen_can_be_told_from_its_ground(dark: bool) -> None:
    of = tokens(dark)
    pairs = [(shape, ground) for shape in SHAPES for ground in PLAIN]
    faint = {pair: ratio for pair in pairs if (ratio := round(contrast(of[pair[0]], of[pair[1]]), 2)) < 3}
    assert faint == {}
