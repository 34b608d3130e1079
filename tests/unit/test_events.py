"""Events of streams, as the HTML standard reads them."""

from __future__ import annotations

from decoupled.core.outcomes import Record
from decoupled.pipeline import events


def test_a_result_with_line_ends_between_its_tokens_is_one_line_of_data() -> None:
    record = Record("a", "orders", "processed", 1, result='{\n"text":\r"a\\n"}', finished_at=2)
    lines = events.of_record(record).decode().splitlines()
    assert [line.partition(":")[0] for line in lines] == ["id", "event", "data", ""]
    assert '{ "text": "a\\n"}' in lines[2]
