"""`decoupled dead edit`: the body of a dead letter is changed, while its server runs or not."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import DECOUPLED, Server

SHOP = """
from typing import Annotated
from msgspec import Meta, Struct
from decoupled import Effects, Message, Put, Workload

class Sale(Struct, forbid_unknown_fields=True):
    sku: str
    quantity: Annotated[int, Meta(ge=1)] = 1
    price: float = 1.5

def process(sale: Sale, message: Message) -> Effects:
    if not sale.sku.startswith("KB-"):
        raise KeyError(sale.sku)
    return Effects({"sold": sale.sku}, [Put("sales/sold/" + message.id, {"sku": sale.sku})])

SALES = Workload("sales", Sale, process, group=lambda sale: sale.sku)
"""
WRONG = {"sku": "XX-1", "quantity": 2}
RIGHT = b'{"sku":"KB-1","quantity":2}'


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    project = tmp_path_factory.mktemp("shop")
    (project / "shop.py").write_text(SHOP)
    server = Server(project / "data", "--workloads", f"{project / 'shop.py'}:SALES", "--max-attempts", "1")
    server.start()
    yield server
    server.end()


def dead_one(server: Server, key: str = "", entry: Any = WRONG) -> str:
    """Its id."""
    message_id = sent(server, entry, key)
    server.wait_until("dead", f"/sales/{message_id}")
    return message_id


def sent(server: Server, entry: Any, key: str) -> str:
    """The id that it was accepted under, or the status of a refusal."""
    answer = server.post("/sales", entry, **({"idempotency_key": f'"{key}"'} if key else {}))
    return str(answer.json["id"]) if answer.status == 202 else str(answer.status)


def run(server: Server, *arguments: str | Path, status: int = 0, text: bytes = b"", editor: Path | None = None) -> str:
    environment = os.environ | {"DECOUPLED_WORKLOADS": server.options[1], "COLUMNS": "200"}
    environment = {name: it for name, it in environment.items() if name not in ("VISUAL", "EDITOR")}
    if editor is not None:
        environment["EDITOR"] = str(editor)
    command = [DECOUPLED, "dead", arguments[0], "--data", server.data, *arguments[1:]]
    ran = subprocess.run(command, env=environment, input=text, capture_output=True, timeout=60, check=False)
    said = (ran.stdout + ran.stderr).decode()
    assert ran.returncode == status, said
    assert "Traceback" not in said
    return said


def shown(server: Server, message_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(server, "show", message_id))
    return found


def test_a_body_is_checked_shown_stored_and_redriven_and_the_one_before_is_kept(shop: Server) -> None:
    message_id = dead_one(shop, "cart-1")
    said = run(shop, "edit", message_id, "--body", "-", text=RIGHT + b"\n")
    assert '-  "sku": "XX-1"' in said
    assert '+  "sku": "KB-1"' in said
    assert " quantity" not in said.replace('   "quantity": 2,', "")
    assert "its group is 'KB-1' now, and was 'XX-1'" in said
    assert f"edited; to put it back: decoupled dead redrive {message_id}" in said
    letter = shown(shop, message_id)
    assert (letter["body"], letter["group"]) == (RIGHT.decode(), "KB-1")
    (edit,) = letter["edits"]
    assert json.loads(edit["body"]) == WRONG
    assert "@" in edit["by"]

    assert sent(shop, WRONG, "cart-1") == message_id
    run(shop, "redrive", message_id)
    (record,) = shop.wait_until("processed", f"/sales/{message_id}")
    assert record["result"] == {"sold": "KB-1"}
    assert sent(shop, WRONG, "cart-1") == message_id
    assert sent(shop, json.loads(RIGHT), "cart-1") == "422"  # of that key it is another entry, as ever
    assert shop.rows("SELECT id FROM edits") == [(message_id,)]


def test_what_its_workload_would_not_take_is_refused_with_the_fields(shop: Server) -> None:
    message_id = dead_one(shop)
    said = run(shop, "edit", message_id, "--body", "-", text=b'{"quantity":0,"more":1}', status=1)
    for fault in ("sales would not take it", "#/sku", "#/quantity", "#/more"):
        assert fault in said
    assert "it is not JSON" in run(shop, "edit", message_id, "--body", "-", text=b"sku: KB-1", status=1)
    assert "it is not JSON" in run(shop, "edit", message_id, "--body", "-", "--unchecked", text=b"{", status=1)
    huge = b'{"sku":"' + b"K" * 300_000 + b'"}'
    assert "262,144 is the limit" in run(shop, "edit", message_id, "--body", "-", "--unchecked", text=huge, status=1)
    same = b'{"quantity": 2, "sku": "XX-1"}'
    assert "nothing was changed" in run(shop, "edit", message_id, "--body", "-", text=same)
    assert "edits" not in shown(shop, message_id)
    run(shop, "edit", message_id, "--body", "-", "--unchecked", text=b'{"quantity":0}')
    assert shown(shop, message_id)["body"] == '{"quantity":0}'
    nobody = ("edit", message_id, "--body", "-", "--workloads", "orders")
    assert "'sales', which says what a body may be, is none of those here" in run(shop, *nobody, text=RIGHT, status=1)


def test_an_editor_gets_a_private_file_which_is_gone_after_that_or_kept_when_it_is_refused(
    shop: Server, tmp_path: Path
) -> None:
    message_id = dead_one(shop, entry={"sku": "XX-1", "price": 1.10})
    assert "there is no $EDITOR" in run(shop, "edit", message_id, status=2)
    editor = tmp_path / "editor"
    seen = tmp_path / "seen"
    editor.write_text(f'#!/bin/sh\ncp -p "$1" {seen}\necho "$1" > {seen}.path\nsed -i s/XX/YY/ "$1"\n')
    editor.chmod(0o700)
    assert "edited" in run(shop, "edit", message_id, editor=editor)
    assert seen.read_text() == '{\n  "sku": "XX-1",\n  "price": 1.1\n}\n'
    assert stat.S_IMODE(seen.stat().st_mode) == 0o600
    assert not Path((tmp_path / "seen.path").read_text().strip()).parent.exists()
    assert shown(shop, message_id)["body"] == '{"sku":"YY-1","price":1.1}'
    editor.write_text('#!/bin/sh\nsed -i s/sku/sko/ "$1"\n')
    said = run(shop, "edit", message_id, editor=editor, status=1)
    kept = Path(said.partition("What you wrote is in ")[2].partition(":")[0])
    assert '"sko"' in kept.read_text()
    kept.unlink()
    kept.parent.rmdir()
    editor.write_text(f'#!/bin/sh\necho "$1" > {seen}.path\nkill -INT $PPID\nsleep 20\n')
    assert "Aborted!" in run(shop, "edit", message_id, editor=editor, status=1)
    assert not Path((tmp_path / "seen.path").read_text().strip()).parent.exists()
    editor.write_text("#!/bin/sh\nexit 3\n")
    assert "the editor ended with 3; nothing was changed" in run(shop, "edit", message_id, editor=editor, status=1)


def test_without_a_server_it_is_changed_too_and_the_next_server_knows(shop: Server) -> None:
    message_id = dead_one(shop)
    assert shop.stop() == 0
    run(shop, "edit", message_id, "--body", "-", text=RIGHT)
    assert f"{message_id} is not dead here" not in run(shop, "redrive", message_id)
    assert "is not dead here" in run(shop, "edit", message_id, "--body", "-", text=RIGHT, status=1)
    shop.start()
    shop.wait_until("processed", f"/sales/{message_id}")
