"""Notifications: to a webhook, signed as Standard Webhooks asks, or by e-mail. Each recipient gets a message, and so a
record, of its own. What a recipient has seen cannot be rolled back, so its delivery is at least once: the message id
goes with it (webhook-id, Message-ID), by which a receiver knows a repetition.

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
    subject: Annotated[str, Meta(pattern=mail.ONE_LINE, max_length=200)]
    text: Annotated[str, Meta(max_length=20_000)]
    data: dict[str, Raw] = {}  # handed on as it was sent: a number with more digits than a float has keeps them

    def __post_init__(self) -> None:
        if len(self.to) > 1 and len(self.to) * len(msgspec.json.encode(self)) > MAX_FAN_OUT_BYTES:
            raise BadField("/to", "too many recipients for so much text: send it in parts")


def group(notification: Notification) -> str:
    """The receiver's host. Several receivers share no fate: each gets a message of its own."""
    recipient, *others = notification.to
    host = mail.host(recipient.address) if isinstance(recipient, Email) else webhook.host(recipient.url)
    return "" if others else host


async def process(notification: Notification, message: Message) -> Effects:
    recipient, *others = notification.to
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
    now, accepted = datetime.now(UTC), datetime.fromtimestamp(message.accepted_at / 1000, UTC)
    content = {"subject": notification.subject, "text": notification.text} | notification.data
    body = msgspec.json.encode({"type": notification.type, "timestamp": accepted, "data": content})
    signature = Signer(setting("WEBHOOK_SECRET")).sign(message.id, now, body.decode())
    headers = {"content-type": "application/json", "webhook-id": message.id}
    headers |= {"webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature}
    http_status = await webhook.post(url, headers, body, os.environ.get("WEBHOOK_TRUSTED_HOSTS", "").split(","))
    return {"delivered_to": webhook.host(url), "http_status": http_status}  # a path may hold a secret


async def send_mail(address: str, notification: Notification, message: Message) -> dict[str, Any]:
    outgoing = mail.compose(setting("MAIL_FROM"), address, notification.subject, notification.text, message.id)
    await mail.send_in_thread(setting("SMTP_URL"), outgoing)
    return {"delivered_to": address, "message_id": outgoing.message_id}


EXAMPLE = {"to": [{"kind": "email", "address": "ana@example.com"}], "type": "shop.sent", "subject": "Hi", "text": "Go"}
WORKLOAD = Workload("notifications", Notification, process, group=group, emits_to=("notifications",), example=EXAMPLE)
