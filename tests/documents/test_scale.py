"""docs/scale.md shows what its commands print, and the README's plan is the one of that page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.plans import DOCUMENT, commands, said
from tests.support.server import ROOT

SHOWN = list(commands(DOCUMENT.read_text()))


def test_all_four_scales_and_the_sale_are_shown() -> None:
    typed = [command for command, _ in SHOWN]
    assert [
        "--spike 40000" in typed[0],
        *[f"--steady {it} " in f"{text} " for it, text in zip((1, 1_000, 100_000, 1_000_000), typed[1:], strict=True)],
    ] == [True] * 5


@pytest.mark.parametrize(("command", "shown"), SHOWN, ids=[command.split(" --")[1] for command, _ in SHOWN])
def test_a_command_prints_what_is_shown_below_it_and_draws_its_plot(command: str, shown: str, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    assert said(command, tmp_path) == shown, "make plans writes it anew"
    for plot in re.findall(r"--plot (\S+)", command):
        assert (tmp_path / plot).stat().st_size > 10_000
        assert (ROOT / plot).is_file()


def test_the_readme_asks_what_the_page_answers() -> None:
    assert f"```\n{SHOWN[0][0]}\n```" in (ROOT / "README.md").read_text()
