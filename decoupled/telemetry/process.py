"""Starts and ends a process's traces. Whether it has any is for the environment to say, in OpenTelemetry's own words:
with an endpoint (OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT), or OTEL_TRACES_EXPORTER=otlp, and
without OTEL_SDK_DISABLED=true. What is asked for and cannot be had costs the traces, and no message."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from decoupled.core import limits, tracing

if TYPE_CHECKING:
    from decoupled.telemetry.spans import OpenTelemetry

log = logging.getLogger("decoupled.telemetry")

Role = Literal["writer", "front", "worker", "receiver", "processor"]

_started: OpenTelemetry | None = None


def start(role: Role, system: str, told: bool = False) -> None:
    """From now on spans are made in this process, if they are asked for. `system` is what messaging.system says of the
    queue. `told`: another process of the same environment has said what is wrong with it."""
    global _started
    if _started is not None or not asked(os.environ):
        return
    try:
        why_not = unusable(os.environ)
        if why_not is None:
            from decoupled.telemetry.spans import OpenTelemetry

            _started = tracing.active = OpenTelemetry(role, system, os.environ)
            return
    except ImportError as error:
        why_not = f"{error}; install them: pip install 'decoupled[otel]'"
    except Exception as error:  # noqa: BLE001  whatever a library says of a setting, messages are more than traces
        why_not = f"{type(error).__name__}: {error}"
    if not told:
        log.warning("there are no traces, though the environment asks for them", extra={"error": why_not})


def flush(seconds: float = limits.TRACE_FLUSH_S) -> None:
    """Send what has ended by now, and wait for that so long at most."""
    if _started is not None:
        _started.flush(seconds)


def stop() -> None:
    """No more: the last spans leave, within a bounded time."""
    global _started
    if _started is not None:
        tracing.active, stopping = None, _started
        _started = None
        stopping.stop(limits.TRACE_FLUSH_S)


def asked(environ: Mapping[str, str]) -> bool:
    """Whether the environment asks for traces."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporters = _exporters(environ)
    if exporters:
        return exporters != {"none"}
    return bool(environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))


def unusable(environ: Mapping[str, str]) -> str | None:
    """What it asks for that is not here, if anything."""
    if others := _exporters(environ) - {"otlp", "none"}:
        return f"OTEL_TRACES_EXPORTER is {min(others)}; otlp is what there is"
    protocol = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol not in (None, "", "http/protobuf"):
        return f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol}; http/protobuf is what there is, mostly at port 4318"
    return None


def _exporters(environ: Mapping[str, str]) -> set[str]:
    return {name.strip().lower() for name in environ.get("OTEL_TRACES_EXPORTER", "").split(",")} - {""}
