"""OpenTelemetry, where the environment asks for it: makes the spans that `core/tracing.py` names, and sends them to a
collector. The only room that imports it, and only when it is asked for."""
