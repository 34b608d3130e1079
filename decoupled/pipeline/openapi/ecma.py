"""Patterns of schemas as clients understand them: Python's regular expressions in ECMAScript's dialect, with its `u`
flag, which is what JSON Schema means by `pattern`. Pure."""

from __future__ import annotations

import re
import unicodedata

# One element of a pattern at a time. A set's inside is looked at by itself: other characters mean something there.
_ELEMENT = re.compile(
    r"""(?P<set>\[\^?\]?(?:\\.|[^]\\])*\])
    | (?P<escape>\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|N\{[^}]*\}
        |0[0-7]{0,2}|[1-3][0-7]{2}|[1-9][0-9]?|.))
    | (?P<count>\{(?P<least>[0-9]*)(?P<comma>,?)(?P<most>[0-9]*)\})
    | (?P<group>\(\?(?:P<\w+>|P=\w+\)|\#[^)]*\)|>|<?[=!]|:))
    | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_IN_SET = re.compile(r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|N\{[^}]*\}|[0-7]{1,3}|.)|.", re.DOTALL)
_SAME = "dDsSwWbBtnrfv"  # mean the same after a backslash
_OTHERS = {"A": "^", "Z": "$"}
_SYNTAX = "^$\\.*+?()[]{}|/"


def ecma(pattern: str) -> str | None:
    """The same pattern for others, or None where there is none: flags within it, and conditional groups.

    What ECMAScript does not have is widened, so that nothing is refused that the server takes: an atomic group or a
    possessive quantifier may give back there. `$` is stricter than Python's, and \\d, \\w and \\s mean ASCII's digits
    and letters, and a few other spaces."""
    parts: list[str] = []
    quantified = False  # what stands before is a quantifier: a + after it makes it possessive
    for found in _ELEMENT.finditer(pattern):
        text = found[0]
        if text == "+" and quantified:
            quantified = False
            continue
        was_quantified, quantified = quantified, False
        if found["set"]:
            parts.append(_set(text))
        elif found["escape"]:
            parts.append(_escape(text, _SYNTAX))
        elif found["count"]:
            quantified = bool(found["least"] or found["comma"])
            parts.append(f"{{{found['least'] or 0}{found['comma']}{found['most']}}}" if quantified else _literal(text))
        elif found["group"]:
            parts.append(_group(text))
        elif text == "(" and pattern[found.end() : found.end() + 1] == "?":
            return None
        else:
            quantified = text in "*+" or (text == "?" and not was_quantified)
            parts.append(f"\\{text}" if text in "{}]" else text)
    return "".join(parts)


def _literal(text: str) -> str:
    return "".join(f"\\{each}" if each in _SYNTAX else each for each in text)


def _group(text: str) -> str:
    if text.startswith("(?#"):
        return ""
    if text.startswith("(?P="):
        return f"\\k<{text[4:-1]}>"
    return "(?:" if text[2] == ">" else text.replace("(?P", "(?")


def _set(text: str) -> str:
    """A set of characters. In Python, one that stands first may be the closing bracket itself."""
    start = 2 if text.startswith("[^") else 1
    inside = (_escape(part, _SYNTAX + "-") if part[0] == "\\" else part for part in _IN_SET.findall(text[start:-1]))
    return text[:start] + "".join("\\]" if part == "]" else part for part in inside) + "]"


def _escape(text: str, syntax: str) -> str:
    """An escape. One that means nothing else than its character is only one where the character is syntax."""
    rest = text[1:]
    if rest.isdigit() and (rest[0] == "0" or len(rest) == 3 or syntax != _SYNTAX):
        return f"\\x{int(rest, 8):02x}"
    if rest[0] in "123456789xu" or rest in _SAME:
        return text
    if rest in _OTHERS and syntax == _SYNTAX:
        return _OTHERS[rest]
    if rest[0] == "U":
        return f"\\u{{{int(rest[1:], 16):x}}}"
    if rest[0] == "N":
        return f"\\u{{{ord(unicodedata.lookup(rest[2:-1])):x}}}"
    return "\\x07" if rest == "a" else text if rest in syntax else rest
