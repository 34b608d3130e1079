"""The secret of a stack, as its functions read it from Secrets Manager: at a start, and again every few minutes, so
that what changes there needs no deployment. How it is made and changed is in `secret_store.py`.

    never read, and it cannot be    Unavailable: the receiver answers 503, the processor's batch comes back
    read before, and it cannot be   what is known stays so, and the log says so; read again soon
    an id names an unknown key      read again, but not more often than every few seconds

A member in capitals is a workload's own (`STRIPE_KEY`), and like the others that go into the environment of the
process it does not take the place of what the function's configuration says."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import msgspec

from decoupled.core import stack_limits
from decoupled.core.signed_ids import IdKeys, Opened, keys_of
from decoupled.core.times import steady_ms
from decoupled.core.workload import Message, Unavailable
from decoupled.engines.aws.client import AwsError, client, detail

log = logging.getLogger("decoupled.secret")

ID_KEYS = "IdKeys"
VARIABLES = {"WebhookSecret": "WEBHOOK_SECRET", "SmtpUrl": "SMTP_URL", "TracesHeaders": "OTEL_EXPORTER_OTLP_HEADERS"}
"""Members of the secret that code reads from its environment, and the names that they have there."""
OWN = re.compile("[A-Z][A-Z0-9_]{0,63}")
"""The names of members that are workloads' own."""
RECEIVERS, PROCESSORS = re.compile("TracesHeaders"), re.compile(f"WebhookSecret|SmtpUrl|TracesHeaders|{OWN.pattern}")
"""What of it goes into the environment of a function."""
NONE = re.compile("(?!)")


class Secret:
    """What the secret says, as it was read last, and what of it is wanted in `environ`. `read` is None where the stack
    has no secret: then ids are signed as the environment says."""

    def __init__(
        self,
        read: Callable[[], Mapping[str, str]] | None,
        environ: MutableMapping[str, str],
        wanted: re.Pattern[str] = NONE,
        clock_ms: Callable[[], int] = steady_ms,
    ) -> None:
        self._read = read
        self._environ = environ
        self._wanted = wanted
        self._clock_ms = clock_ms
        self._lock = threading.Lock()  # a batch's commits show ids in several threads
        self._configured = frozenset(environ)
        self._known: Mapping[str, str] | None = None
        self._keys = keys_of(environ.get("ID_KEYS", "")) if read is None else IdKeys([])
        self._looked_at = 0
        self._failure = ""

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str], wanted: re.Pattern[str] = NONE) -> Secret:
        """The one that a function's environment names by SECRET_ARN, read. Raises Unavailable if it cannot be."""
        if not (arn := environ.get("SECRET_ARN")):
            return cls(None, environ)
        manager = client("secretsmanager")
        made = cls(lambda: read(manager, arn), environ, wanted)
        made.renew()
        return made

    def renew(self, missed: bool = False) -> None:
        """Read it if it is time to; sooner where something is `missed` in it. Raises Unavailable if it was never
        read."""
        with self._lock:
            pause_s = stack_limits.SECRET_AGAIN_S if missed or self._failure else stack_limits.SECRET_LOOK_S
            now = self._clock_ms()
            if self._read is None or (self._known is not None and now - self._looked_at < pause_s * 1000):
                return
            self._looked_at = now
            try:
                self._take(self._read())
                self._failure = ""
            except (Unavailable, ValueError) as error:
                self._failure = str(error)
                if self._known is None:
                    log.error("the secret cannot be read", extra={"error": self._failure})  # noqa: TRY400  one line
                    raise Unavailable(self._failure) from error
                log.warning("the secret cannot be read again", extra={"error": self._failure})

    def _take(self, said: Mapping[str, str]) -> None:
        self._keys = keys_of(said.get(ID_KEYS, ""))
        for name in {**(self._known or {}), **said}:
            variable = VARIABLES.get(name, name)
            if not self._wanted.fullmatch(name) or variable in self._configured:
                continue
            if said.get(name):
                self._environ[variable] = said[name]
            else:
                self._environ.pop(variable, None)
        self._known = said

    def shown(self, message: Message) -> str:
        """A message's id as its client gets it."""
        self.renew()
        return self._keys.shown(message)

    def open(self, shown: str, workload: str, caller: str | None) -> Opened | None:
        """What an id proves that comes back, as `IdKeys.open` does. Raises Unavailable where that depends on a key that
        may be there, and cannot be read."""
        self.renew()
        if not self._keys.knows(shown):
            self.renew(missed=True)
            if self._failure and not self._keys.knows(shown):
                raise Unavailable("whether this id was given out cannot be known now")
        return self._keys.open(shown, workload, caller)


def read(manager: Any, secret_id: str) -> Mapping[str, str]:
    """What a secret says: its members that are text. Raises Unavailable if Secrets Manager does not tell, and
    ValueError, which repeats nothing of it, for what is no JSON object."""
    try:
        text = manager.get_secret_value(SecretId=secret_id).get("SecretString", "")
    except AwsError as error:
        raise Unavailable(f"Secrets Manager does not tell: {detail(error)}") from error
    return members(text)


def members(text: str) -> dict[str, str]:
    """The members of a secret that are text. Raises ValueError, which repeats nothing of it."""
    try:
        said = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError:
        said = None
    if said is None:  # outside of the handler: what was raised there knows the text
        raise ValueError("the secret is no JSON object")
    return {name: value for name, value in said.items() if isinstance(value, str)}
