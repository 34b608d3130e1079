"""What an operator may choose for one machine. Defaults serve a laptop; limits that nobody should choose stand in
`decoupled/limits.py`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from decoupled import limits


@dataclass(frozen=True, slots=True)
class Options:
    """Checked when made: raises ValueError naming what is wrong."""

    workloads: tuple[str, ...] = ("orders",)
    host: str = "127.0.0.1"
    port: int = 8080
    data: Path = Path(".data")
    concurrency: int = 2  # worker processes
    rate: float | None = None  # messages a second, at most; None: as fast as they are processed
    function_timeout_s: float = 30.0  # for a batch of up to ten messages
    visibility_timeout_s: float = 180.0  # six times the function timeout, as AWS advises
    max_attempts: int = limits.MAX_ATTEMPTS
    max_receive_count: int = limits.MAX_RECEIVE_COUNT
    drain_s: float = 10.0  # to finish what is in flight when asked to stop

    @property
    def url(self) -> str:
        """Where a client on this machine reaches the server."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def __post_init__(self) -> None:
        bounds = {
            "port": (1, 65_535),
            "concurrency": (1, 64),
            "rate": (0.001, 1_000_000),
            "function_timeout_s": (0.1, 900),
            "visibility_timeout_s": (1, limits.MAX_VISIBILITY_TIMEOUT_S),
            "max_attempts": (1, 1_000),
            "max_receive_count": (1, 1_000_000),
            "drain_s": (0, 900),
        }
        for name, (least, most) in bounds.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise ValueError(f"{name} is {value}; it can be {least:,} to {most:,}")
        if self.visibility_timeout_s < self.function_timeout_s:
            raise ValueError(
                f"the visibility timeout ({self.visibility_timeout_s:g} s) is shorter than the function timeout"
                f" ({self.function_timeout_s:g} s): messages would be handed out again while they are processed"
            )
