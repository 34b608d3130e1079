"""Notifications: to a webhook, signed as Standard Webhooks asks, or by e-mail. Each recipient gets a message, and so a
record, of its own. What a recipient has seen cannot be rolled back, so its delivery is at least once: the message id
goes with it (webhook-id, Message-ID), by which a receiver knows a repetition. Callbacks are webhooks of the system's
own: what a message came to, for whoever sent it with a Callback-Url.

Settings: WEBHOOK_SECRET (whsec_…), WEBHOOK_TRUSTED_HOSTS (names that may be private, comma-separated), SMTP_URL and
MAIL_FROM. What needs one that is missing becomes a dead letter that says so, to be redriven once it is set."""

import os
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct
from standardwebhooks import Webhook as Signer

from decoupled import BadField, Effects, Emit, Message, Rejected, Unavailable, Workload
from decoupled.outbound import addresses, mail, webhook
from decoupled.outbound.settings import setting

MAX_FAN_OUT_BYTES = 300_000  # of all recipients' messages together: they are stored with the record that emits them
GIVE_UP_AFTER_S = 3 * 86_400


class Webhook(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="webhook"):
    url: Annotated[str, Meta(max_length=2_000)]

    def __post_init__(self) -> None:
        webhook.check_url("/url", self.url)


class Email(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="email"):
    address: addresses.Address

    def __post_init__(self) -> None:
        addresses.check_address("/address", self.address)


class Notification(Struct, frozen=True, forbid_unknown_fields=True):
    to: Annotated[list[Email | Webhook], Meta(min_length=1, max_length=50)]
    type: Annotated[str, Meta(pattern=r"^[a-z0-9_]+(\.[a-z0-9_]+)*\Z", max_length=100)]
    subject: Annotated[str, Meta(pattern=mail.ONE_LINE, max_length=200)] | None = None
    text: Annotated[str, Meta(max_length=20_000)] | None = None
    data: dict[str, Raw] = {}  # handed on as it was sent: a number with more digits than a float has keeps them

    def __post_init__(self) -> None:
        for name in ("subject", "text"):
            if getattr(self, name) is None and not self.is_callback:
                raise BadField(f"/{name}", "only callbacks have none, which nobody sends but the system itself")
        if len(self.to) > 1 and len(self.to) * len(msgspec.json.encode(self)) > MAX_FAN_OUT_BYTES:
            raise BadField("/to", "too many recipients for so much text: send it in parts")

    @property
    def is_callback(self) -> bool:
        """Does it look like one? It says what a message came to, to one webhook, and nothing else."""
        recipient, *others = self.to
        alone = isinstance(recipient, Webhook) and not others and self.subject is None and self.text is None
        return alone and {"id", "workload", "status"} <= self.data.keys()


def group(notification: Notification) -> str:
    """The receiver's host. Several receivers share no fate: each gets a message of its own."""
    recipient, *others = notification.to
    host = mail.host(recipient.address) if isinstance(recipient, Email) else webhook.host(recipient.url)
    return "" if others else host


async def process(notification: Notification, message: Message) -> Effects:
    recipient, *others = notification.to
    if notification.is_callback and not message.tells_of(record_id(notification)):
        raise Rejected("only a callback has neither subject nor text, and this is none: a receiver must not believe it")
    if others:
        emits = [Emit("notifications", msgspec.structs.replace(notification, to=[to])) for to in notification.to]
        urls = [f"/notifications/{message.emitted_id(index)}" for index in range(len(emits))]
        return Effects({"deliveries": urls}, emits=emits)
    try:
        if isinstance(recipient, Email):
            return Effects(await send_mail(recipient.address, notification, message))
        return Effects(await call(recipient.url, notification, message))
    except Unavailable as error:
        if datetime.now(UTC).timestamp() - message.accepted_at / 1000 > GIVE_UP_AFTER_S:
            raise Rejected(f"undeliverable for {GIVE_UP_AFTER_S // 86_400} days: {error}") from error
        raise


def record_id(notification: Notification) -> str:
    """The id that the record of a callback has; "" where it is no text."""
    try:
        return msgspec.json.decode(notification.data["id"], type=str)
    except msgspec.DecodeError:
        return ""


async def call(url: str, notification: Notification, message: Message) -> dict[str, Any]:
    now, accepted = datetime.now(UTC), datetime.fromtimestamp(message.accepted_at / 1000, UTC)
    written = {} if notification.is_callback else {"subject": notification.subject, "text": notification.text}
    content = written | notification.data
    body = msgspec.json.encode({"type": notification.type, "timestamp": accepted, "data": content})
    signature = Signer(setting("WEBHOOK_SECRET")).sign(message.id, now, body.decode())
    headers = {"content-type": "application/json", "webhook-id": message.id}
    headers |= {"webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature}
    http_status = await webhook.post(url, headers, body, trusted_hosts())
    return {"delivered_to": webhook.host(url), "http_status": http_status}  # a path may hold a secret


async def send_mail(address: str, notification: Notification, message: Message) -> dict[str, Any]:
    subject, text = notification.subject or "", notification.text or ""
    outgoing = mail.compose(setting("MAIL_FROM"), address, subject, text, message.id)
    await mail.send_in_thread(setting("SMTP_URL"), outgoing)
    return {"delivered_to": address, "message_id": outgoing.message_id}


def trusted_hosts() -> list[str]:
    return os.environ.get("WEBHOOK_TRUSTED_HOSTS", "").split(",")


def check_callback(url: str) -> None:
    webhook.check_target(url, trusted_hosts())
    # On AWS only the processor has the secret, and it says what is missing in a dead letter.
    if not os.environ.get("WEBHOOK_SECRET") and "AWS_LAMBDA_FUNCTION_NAME" not in os.environ:
        raise ValueError("it could not be signed, because WEBHOOK_SECRET is not set here")


EXAMPLE = {"to": [{"kind": "email", "address": "ana@example.com"}], "type": "shop.sent", "subject": "Hi", "text": "Go"}
WORKLOAD = Workload(
    "notifications",
    Notification,
    process,
    group=group,
    emits_to=("notifications",),
    check_callback=check_callback,
    example=EXAMPLE,
)
