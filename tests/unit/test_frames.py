"""Frames come out of a stream as they went in, wherever the stream is split; and none is longer than was agreed."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoupled.core.frames import HEADER, Frames, frame

MOST = 600  # bytes


@given(st.lists(st.binary(max_size=MOST)), st.lists(st.integers(0, 5_000)))
def test_wherever_the_stream_is_split_the_same_frames_come_out(payloads: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(frame, payloads))
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    frames = Frames(MOST)
    pieces = [stream[start:end] for start, end in itertools.pairwise(places)]
    assert [bytes(found) for piece in pieces for found in frames.feed(piece)] == payloads


@given(st.lists(st.binary(max_size=20)))
def test_a_frame_is_there_with_its_last_byte_and_not_before(payloads: list[bytes]) -> None:
    frames = Frames(MOST)
    for payload in payloads:
        *before, last = [frames.feed(bytes([byte])) for byte in frame(payload)]
        assert not any(before)
        assert [bytes(found) for found in last] == [payload]


@given(st.lists(st.binary(max_size=MOST), max_size=3), st.integers(MOST + 1, 2**32 - 1), st.integers(0, 3_000))
def test_a_frame_that_is_too_long_is_refused_before_it_is_kept(payloads: list[bytes], size: int, cut: int) -> None:
    stream = b"".join(map(frame, payloads)) + HEADER.pack(size)
    frames = Frames(MOST)
    if cut < len(stream):
        frames.feed(stream[:cut])
        stream = stream[cut:]
    with pytest.raises(ValueError, match=f"{size} bytes"):
        frames.feed(stream)
