"""Orders with one thing changed. For tests only."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from tests.support.events import ORDER

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def almost_orders(draw: st.DrawFn) -> Any:
    """An order with some of its parts replaced, removed or added to."""
    order = json.loads(json.dumps(ORDER))
    for _ in range(draw(st.integers(0, 3))):
        target = draw(st.sampled_from([order, order.get("customer"), (order.get("lines") or [None])[0]]))
        if isinstance(target, dict):
            name = draw(st.sampled_from([*target, "total", "extra"]) if target else st.just("extra"))
            if draw(st.booleans()):
                target[name] = draw(JSON)
            else:
                target.pop(name, None)
        if not isinstance(order.get("lines"), list):
            break
    return order
