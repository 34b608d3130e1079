"""The template's parameters: what is typed, what follows from the workloads, and what is refused before anything is
built."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from decoupled.core.stack_limits import MAX_TAG_KEY_CHARS, MAX_TAG_VALUE_CHARS
from decoupled.core.workload import Workloads


def typed(template: str, pairs: Sequence[str]) -> tuple[set[str], dict[str, str]]:
    """The template's parameters, and those given."""
    section = re.split(r"^\S.*$", template.partition("\nParameters:\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    names = set(re.findall(r"^  (\w+):", section, re.MULTILINE))
    given = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            raise ValueError(f"{pair!r} is not Parameter=Value" + (f"; is it {near[0]}=...?" if near else ""))
        given[name] = value
    return names, given


def tags_of(pairs: Sequence[str]) -> dict[str, str]:
    """Tags, as `--tag` has them. Raises ValueError for what AWS would refuse after everything is built."""
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals or len(key) > MAX_TAG_KEY_CHARS or len(value) > MAX_TAG_VALUE_CHARS:
            most = f"of {MAX_TAG_KEY_CHARS} and {MAX_TAG_VALUE_CHARS} characters at most"
            raise ValueError(f"--tag {pair!r} is not Key=Value, {most}")
        if key.lower().startswith("aws:"):
            raise ValueError(f"--tag {pair!r}: names that begin with aws: are AWS's own")
        found[key] = value
    return found


def ordered(workloads: Workloads, given: Mapping[str, str]) -> dict[str, str]:
    """The parameter that names the ordered workloads. Without any, what the stack has is kept: messages may wait in its
    FIFO queue, and nothing would take them if that left the stack."""
    those = sorted(name for name, workload in workloads.items() if workload.ordered)
    if missing := set(those) - {*given.get("OrderedWorkloads", ",".join(those)).split(",")}:
        raise ValueError(f"{min(missing)!r} is ordered, and OrderedWorkloads does not name it: leave that out")
    return {"OrderedWorkloads": ",".join(those)} if those and "OrderedWorkloads" not in given else {}


def check_callers(given: Mapping[str, str], deployed: Mapping[str, str]) -> None:
    """Refuses tokens of anybody's: without an audience, API Gateway takes those that the issuer gave for other APIs."""
    now = {**deployed, **given}
    if now.get("Authorization") != "JWT":
        return
    issuer = urlsplit(now.get("JwtIssuer", ""))
    if not issuer.scheme.startswith("http") or not issuer.netloc:
        raise ValueError("Authorization=JWT needs JwtIssuer=https://...: the issuer's URL, as in the tokens' iss")
    if not all(audience.strip() for audience in now.get("JwtAudience", "").split(",")):
        raise ValueError("Authorization=JWT needs JwtAudience=...: whom the tokens are for, as in their aud")
