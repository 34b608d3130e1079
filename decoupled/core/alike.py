"""What is left of an error when all is taken out that differs from one message to the next, so that ten thousand dead
letters of three bugs are three groups. Pure.

    KeyError: no order 4711 of 'ada@example.com'    ─▶  KeyError: no order # of '…'
"""

from __future__ import annotations

import functools
import re

from decoupled.core import limits

# In this order: what is within quotes may be anything, and a URL or an address has digits in it. A word of letters and
# digits is an id, more often than not; each alternative begins at the edge of a word, so that the time is linear.
_DIFFERS = re.compile(
    r"""
    (?P<quoted> (?<!\w) (?: '[^']*' | "[^"]*" ) (?!\w) )
    | (?P<url> \b https?:// [^\s/?'"<>]* ) [/?] [^\s'"<>]*
    | (?P<address> (?<![\w.+-]) [\w.+-]+ @ [\w.-]+ )
    | (?P<uuid> (?<!\w) [0-9a-fA-F]{8} (?: -[0-9a-fA-F]{4} ){3} -[0-9a-fA-F]{12} (?!\w) )
    | (?P<number> (?<!\w) \w*\d\w* (?: [-.:,/+]+ \w*\d\w* )* )
    """,
    re.VERBOSE,
)
_SPACE = re.compile(r"\s+")
_AGAIN = 4  # times at most: what was taken out may leave something behind that could be taken out, too


def alike(error_type: str, error: str) -> str:
    """What errors of this kind have in common: the type, and what is left of the text. To do it again to that text
    changes nothing."""
    text = _left(error[: limits.MAX_ALIKE_SEEN_CHARS].translate(_DIGITS))
    return f"{error_type}: {text}" if text else error_type


# No rule asks which digit it is: texts that differ in nothing else are looked at once.
_DIGITS = str.maketrans("123456789", "0" * 9)


@functools.lru_cache(limits.MAX_ALIKE_KEPT)
def _left(text: str) -> str:
    for _ in range(_AGAIN):
        before, text = text, _once(text)
        if text == before:
            break
    return text


def _once(text: str) -> str:
    return _SPACE.sub(" ", _DIFFERS.sub(_instead, text)).strip()[: limits.MAX_ALIKE_CHARS].rstrip()


def _instead(found: re.Match[str]) -> str:
    match found.lastgroup:
        case "quoted":
            quote = found[0][0]
            return f"{quote}…{quote}"
        case "url":
            return _NUMBER.sub("#", found["url"]) + "/…"
        case "address":
            return "…@…"
        case _:
            return "#"


_NUMBER = re.compile(r"\d+")
