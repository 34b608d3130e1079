"""A server on a disk that fails, under load: what cannot be written is refused and health says so, nothing hangs, and
when the disk works again it serves on, or has said why it ended and can be started. Then every 202 is accounted for."""

from __future__ import annotations

import errno
import random
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from tests.support.chaos.disk import Act, Call, Disk, File, Rule
from tests.support.ledger import Load, account_for_everything
from tests.support.server import Answer, Server, serving, wait_for

OPTIONS = ("--workloads", "ledger,echoes", "--log-level", "WARNING")
STORED = File.DATABASE | File.LOG
SOME = 40  # entries that are accepted before and after
TIMES = 5  # that a fault comes true, before it ends; fewer where the rule says so
LONGEST_S = 2.0  # of a fault that hardly ever comes true


@dataclass(frozen=True, slots=True)
class Plan:
    """What goes wrong. `refuses`: nothing can be accepted meanwhile."""

    name: str
    rules: tuple[Rule, ...]
    refuses: bool = False

    @property
    def damages(self) -> bool:
        """To SQLite a place that cannot be read is a damaged one, and health says so until the next start."""
        return any(Call.READ in rule.calls and rule.act is Act.FAIL for rule in self.rules)


PLANS = (
    Plan("no sync of the log works", (Rule(Call.SYNC, Act.FAIL, files=File.LOG),), refuses=True),
    Plan("the log cannot be written", (Rule(Call.WRITE, Act.FAIL, files=File.LOG),), refuses=True),
    Plan("the disk is full", (Rule(Call.WRITE, Act.FAIL, errno.ENOSPC),), refuses=True),
    Plan("every write comes short", (Rule(Call.WRITE, Act.HALF),)),
    Plan("syncs are slow", (Rule(Call.SYNC, Act.WAIT, 100),)),
    Plan("the log cannot be folded", (Rule(Call.WRITE | Call.SYNC | Call.TRUNCATE, Act.FAIL, files=File.DATABASE),)),
    Plan("now and then anything fails", (Rule(Call.ANY, Act.FAIL, share=0.1),)),
    Plan("it dies in a sync", (Rule(Call.SYNC, Act.DIE_BEFORE, files=File.LOG, first=20),)),
    Plan("it dies in the middle of a write", (Rule(Call.WRITE, Act.DIE_HALFWAY, files=STORED, first=50),)),
)


def some_plan(seed: int) -> Plan:
    """One or two faults, drawn: mostly of what a server does all the time."""
    choose = random.Random(seed)
    rules = []
    for _ in range(choose.randint(1, 2)):
        act = choose.choice(list(Act))
        argument = choose.randint(1, 300) if act is Act.WAIT else choose.choice((errno.EIO, errno.ENOSPC))
        calls = choose.choice((Call.WRITE, Call.WRITE, Call.SYNC, Call.SYNC, Call.TRUNCATE, Call.READ, Call.ANY))
        files = choose.choice((File.DATABASE, File.LOG, STORED, File.ANY))
        first, lasts, share = choose.randint(1, 60), choose.choice((1, 10, 1_000)), choose.choice((0.1, 0.5, 1.0))
        rules.append(Rule(calls, act, argument, files, first, first + lasts - 1, share))
    return Plan("; ".join(map(str, rules)), tuple(rules))


def run(directory: Path, plan: Plan, seed: int) -> int:
    """How many entries were accepted. Raises AssertionError at what does not hold."""
    disk = Disk(directory / "data", directory / "control")
    server = Server(directory / "data", *OPTIONS)
    server.environment = disk.environment
    try:
        server.start()
        wait_for((server.data / "server").exists)  # the last that a start writes: it accepts before that
        with Load(server.port, seed) as load:
            _accept_some(load)
            disk.arm(*plan.rules, seed=seed)
            _wait_until_it_happened(server, disk, plan)
            if plan.refuses:
                _check_that_it_refuses(server, disk, load)
            if random.Random(seed).random() < 0.3:
                server.kill()
                _start_badly(server)
            disk.disarm()
            _serves_on(server, load, plan)
        assert not load.trouble, load.trouble[:3]
        account_for_everything(server, load)
        return len(load.accepted)
    finally:
        server.end()


def start(directory: Path, nth: int, error: int, rounds: int = 2) -> int:
    """Start a server whose nth call of the disk fails, on a new directory and again on what that left. How often it did
    not serve: then it says why in one line, and leaves what a server can start from."""
    disk, refused = Disk(directory / "data", directory / "control"), 0
    for _ in range(rounds):
        server = Server(directory / "data", *OPTIONS)
        server.log.unlink(missing_ok=True)
        server.environment = disk.environment
        disk.arm(Rule(Call.ANY, Act.FAIL, error, first=nth, last=nth))
        try:
            _start_badly(server)
            if server.ended():
                refused += 1
                assert "Traceback" not in server.logged(), server.logged()
        finally:
            disk.disarm()
            server.end()
    with serving(directory / "data", *OPTIONS) as server:
        server.wait_until(
            "processed", *[f"/ledger/{it}" for it in server.accept("/ledger", {"account": 1, "amount": 1})]
        )
    return refused


def _accept_some(load: Load) -> None:
    enough = len(load.accepted) + SOME
    wait_for(lambda: len(load.accepted) >= enough)


def _wait_until_it_happened(server: Server, disk: Disk, plan: Plan) -> None:
    """Often enough, or as often as the rules allow; not for ever, since what never is called cannot fail."""
    deadline = time.monotonic() + LONGEST_S
    enough = [min(TIMES, rule.last - rule.first + 1) for rule in plan.rules]
    while not (server.ended() or all(done >= some for done, some in zip(disk.done(), enough, strict=False))):
        if time.monotonic() > deadline:
            return
        time.sleep(0.01)


def _check_that_it_refuses(server: Server, disk: Disk, load: Load) -> None:
    health = wait_for(lambda: server.get("/health"), lambda answer: answer.status == 503)
    assert health.json["status"] == "unavailable", health
    assert health.json["detail"], health
    since, refused, done = time.monotonic(), load.refused.total(), disk.done()[0]
    wait_for(lambda: load.refused.total() > refused + TIMES and disk.done()[0] > done + TIMES)
    assert load.newest_accepted < since, "a request was accepted that could not be written"
    assert server.get("/health").status == 503


def _start_badly(server: Server) -> None:
    """On a disk that fails it serves, or it says in a line why not."""
    server.spawn()
    wait_for(lambda: server.ended() or _answers(server))
    if server.ended():
        _check_that_it_says_why(server)


def _answers(server: Server) -> bool:
    try:
        server.get("/health")
    except OSError:
        return False
    return True


def _check_that_it_says_why(server: Server) -> None:
    if server.wait() != -signal.SIGKILL:  # which is ours, or the rule's
        assert server.wait() == 1, server.logged()
        assert re.search(f"Error: (the data directory )?{re.escape(str(server.data))}", server.logged()), (
            server.logged()
        )


def _serves_on(server: Server, load: Load, plan: Plan) -> None:
    """Now that the disk works. If it ended of what was, it says why and can be started."""
    enough = len(load.accepted) + SOME
    wait_for(lambda: server.ended() or len(load.accepted) >= enough)
    if server.ended():
        _check_that_it_says_why(server)
        server.start()
        _accept_some(load)

    def well(health: Answer) -> bool:
        return health.json["status"] == "ok" or (plan.damages and "is damaged" in health.json["detail"])

    wait_for(lambda: server.get("/health"), well)
