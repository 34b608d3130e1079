"""Texts that somebody sends who wants a header, a line or an address to become another. For tests only."""

from __future__ import annotations

from hypothesis import strategies as st

LINE_ENDS = ["\r\n", "\r", "\n", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\0"]

# What the standard library's `email` decoded into lines of the header: of the issue, and its kin.
ENCODED = [
    "=?utf-8?q?Invoice=0d=0aReply-To:_evil@x.y=0d=0aContent-Type:_text/html=0d=0a=0d=0a<h1>x</h1>?=",
    "=?utf-8?q?=0d=0aBcc:_evil@x.y?=",
    "=?utf-8?b?DQpCY2M6IGV2aWxAeC55?=",
    "=?us-ascii?q?a=0aBcc:_evil@x.y?=",
    "=?utf-8?q?=E2=80=A8Bcc:_evil@x.y?=",
    "before =?utf-8?q?=0d=0aBcc:_evil@x.y?= after",
    "=?utf-8?q?=3D=3Futf-8=3Fq=3F=3D0d=3D0aBcc:_evil@x.y=3F=3D?=",
]


def texts(max_size: int = 60) -> st.SearchStrategy[str]:
    """Any text, most of it of what has a meaning in an e-mail."""
    marks = ["?=", ".", "<", ">", '"', "\\", "@", " ", "\t", "=", "=0D=0A", "ab", "\u202e", "é", "☂", "😀"]
    lines = ["=?utf-8?q?", "Bcc: evil@x.y", "\r\n.\r\n", "\n.\n", "\r.\r", "\r\n..\r\n", "RCPT TO:<evil@x.y>"]
    pieces = st.sampled_from([*LINE_ENDS, *ENCODED, *marks, *lines])
    return st.lists(pieces | st.characters(codec="utf-8"), max_size=max_size // 4).map(
        lambda parts: "".join(parts)[:max_size]
    )


def addresses() -> st.SearchStrategy[str]:
    """Addresses, and what nearly are some."""
    atom = st.text("abcXYZ09!#$%&'*+/=?^_`{|}~-éßİſ\u0301", min_size=1, max_size=8)
    label = st.text("abcXYZ09-éßü", min_size=1, max_size=8) | st.sampled_from(
        ["xn--bcher-kva", "b\u00fccher", "a\u200bb"]
    )
    dotted = st.lists(atom, min_size=1, max_size=3).map(".".join)
    domain = st.lists(label, min_size=2, max_size=3).map(".".join)
    return st.tuples(dotted | texts(10), domain | texts(10)).map("@".join)
