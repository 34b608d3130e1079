"""The names of spans and of what they say, as OpenTelemetry's semantic conventions have them: those of HTTP are stable,
those of messaging are in development. The only place where they stand; a test compares them with OpenTelemetry's own.
Pure."""

from __future__ import annotations

VERSION = "1.37.0"  # of the conventions, which the instrumentation scope names by its schema
SCHEMA_URL = f"https://opentelemetry.io/schemas/{VERSION}"
SCOPE = "decoupled"

# --- of a process -------------------------------------------------------------
SERVICE_NAME = "service.name"
SERVICE_VERSION = "service.version"
SERVICE_INSTANCE_ID = "service.instance.id"
PROCESS_PID = "process.pid"

# --- of HTTP ------------------------------------------------------------------
HTTP_REQUEST_METHOD = "http.request.method"
HTTP_ROUTE = "http.route"
HTTP_RESPONSE_STATUS_CODE = "http.response.status_code"
URL_PATH = "url.path"
URL_SCHEME = "url.scheme"
URL_FULL = "url.full"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
NETWORK_PROTOCOL_NAME = "network.protocol.name"

# --- of messaging -------------------------------------------------------------
MESSAGING_SYSTEM = "messaging.system"
MESSAGING_DESTINATION_NAME = "messaging.destination.name"
MESSAGING_OPERATION_NAME = "messaging.operation.name"
MESSAGING_OPERATION_TYPE = "messaging.operation.type"
MESSAGING_MESSAGE_ID = "messaging.message.id"
MESSAGING_BATCH_MESSAGE_COUNT = "messaging.batch.message_count"

# --- of failures --------------------------------------------------------------
ERROR_TYPE = "error.type"
EXCEPTION = "exception"  # an event's name
EXCEPTION_TYPE = "exception.type"
EXCEPTION_MESSAGE = "exception.message"
EXCEPTION_STACKTRACE = "exception.stacktrace"

# --- our own: there is no convention for these ----------------------------------
ROLE = "decoupled.role"  # of a process: writer, front, worker, receiver, processor
OUTCOME = "decoupled.outcome"  # of processing: processed, rejected, or the kind of a failure
COMMITTED = "decoupled.committed"  # what a commit has made durable: messages (accepted), or records (decided)


# --- names of spans


def send(workload: str) -> str:
    """A message, or several, go to the queue."""
    return f"send {workload}"


def process(workload: str) -> str:
    """A message is decided."""
    return f"process {workload}"


def request(method: str, route: str) -> str:
    """A request is answered."""
    return f"{method} {route}" if route else method


MESSAGING_SYSTEM_HERE = "decoupled"  # the queue of one machine: the conventions let others have names of their own
MESSAGING_SYSTEM_SQS = "aws_sqs"

COMMIT = "commit"
SEND_MAIL = "send mail"
