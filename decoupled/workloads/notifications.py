"""Notifications: to a webhook, signed as Standard Webhooks asks, or by e-mail. Each recipient gets a message, and so a
record, of its own. What a recipient has seen cannot be rolled back, so its delivery is at least once: the message id
goes with it (webhook-id, Message-ID), by which a receiver knows a repetition. Callbacks are webhooks of our own.

Settings: WEBHOOK_SECRET (whsec_…), WEBHOOK_TRUSTED_HOSTS (names that may be private, comma-separated), SMTP_URL and
MAIL_FROM. What needs one that is missing becomes a dead letter that says so, to be redriven once it is set."""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from decoupled import BadField, Effects, Emit, Message, Rejected, Unavailable, Workload
from decoupled.outbound import addresses, mail, signed, webhook
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
        if None in (self.subject, self.text) and not self.is_callback:
            raise BadField("/text" if self.subject else "/subject", "only callbacks have none, which nobody else sends")
        if len(self.to) > 1 and len(self.to) * len(msgspec.json.encode(self)) > MAX_FAN_OUT_BYTES:
            raise BadField("/to", "too many recipients for so much text: send it in parts")

    @property
    def is_callback(self) -> bool:
        """Does it look like one? It says what a message came to, to one webhook, and nothing else."""
        alone = len(self.to) == 1 and isinstance(self.to[0], Webhook) and self.subject is self.text is None
        return alone and {"id", "workload", "status"} <= self.data.keys()


def group(notification: Notification) -> str:
    """The receiver's host. Several receivers share no fate: each gets a message of its own."""
    to, *others = notification.to
    return "" if others else mail.host(to.address) if isinstance(to, Email) else webhook.host(to.url)


async def process(notification: Notification, message: Message) -> Effects:
    recipient, *others = notification.to
    if notification.is_callback and not message.tells_of(bytes(notification.data["id"]).decode().strip('"')):
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


async def call(url: str, notification: Notification, message: Message) -> dict[str, Any]:
    written = {} if notification.is_callback else {"subject": notification.subject, "text": notification.text}
    http_status = await signed.post(url, notification.type, written | notification.data, message)
    return {"delivered_to": webhook.host(url), "http_status": http_status}  # a path may hold a secret


async def send_mail(address: str, notification: Notification, message: Message) -> dict[str, Any]:
    written = notification.subject or "", notification.text or ""
    outgoing = mail.compose(setting("MAIL_FROM"), address, *written, message.id)
    await mail.send_in_thread(setting("SMTP_URL"), outgoing)
    return {"delivered_to": address, "message_id": outgoing.message_id}


EXAMPLE = {"to": [{"kind": "email", "address": "ana@example.com"}], "type": "shop.sent", "subject": "Hi", "text": "Go"}
EMITS_TO = ("notifications",)
WORKLOAD = Workload(
    "notifications", Notification, process, group, emits_to=EMITS_TO, example=EXAMPLE, check_callback=signed.check
)
