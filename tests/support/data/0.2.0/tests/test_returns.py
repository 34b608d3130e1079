"""The workload's rules, without a server: a plain function from an entry to its effects."""

import unittest

from decoupled import Message
from shop.returns import Return, process

MESSAGE = Message("a1b2c3d4e5f6", "returns", "{}", "ana", 0)


class Returns(unittest.TestCase):
    def test_an_item_goes_back_once_and_its_reason_is_counted(self) -> None:
        effects = process(Return("A-17", "KB-104", "broken"), MESSAGE)
        once, count = effects.writes
        assert effects.result == {"label": "RET-C3D4E5F6", "item": "KB-104"}
        assert (once.key, once.if_absent) == ("returns/items/A-17.KB-104", "returned already")
        assert count.key == "returns/reasons/all"


if __name__ == "__main__":
    unittest.main()
