"""Seats are held for a while, and free again unless they were paid: what is emitted later, to a workload that has no
route, and writes with conditions on attributes. The totals count what was done."""

from msgspec import Struct

from decoupled.core.workload import Add, Delete, Effects, Emit, Message, Put, Update, Workload, Write

HOLD_S = 600


class Hold(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="hold"):
    seat: int
    by: str


class Pay(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="pay"):
    seat: int
    by: str


class Release(Struct, frozen=True, forbid_unknown_fields=True):
    seat: int
    hold: str  # the message that held it


def process(entry: Hold | Pay, message: Message) -> Effects:
    key = f"seats/taken/{entry.seat}"
    writes: list[Write]
    if isinstance(entry, Pay):
        held = {"by": entry.by, "state": "held"}
        writes = [Update(key, {"state": "paid"}, equal=held, if_present="free", otherwise="paid, or another's")]
        return Effects({}, [*writes, Add("seats/totals/all", {"paid": 1})])
    writes = [Put(key, {"by": entry.by, "state": "held", "hold": message.id}, if_absent="taken")]
    later = Emit("releases", Release(entry.seat, message.id), delay_s=HOLD_S)
    return Effects({"release": message.emitted_id(0)}, [*writes, Add("seats/totals/all", {"held": 1})], [later])


def release(entry: Release, _message: Message) -> Effects:
    held = {"hold": entry.hold, "state": "held"}
    gone = Delete(f"seats/taken/{entry.seat}", equal=held, otherwise="paid")
    return Effects({}, [gone, Add("seats/totals/all", {"released": 1})])


WORKLOAD = Workload(
    "seats", Hold | Pay, process, readable=("taken", "totals"), listed=("taken",), emits_to=("releases",)
)
RELEASES = Workload("releases", Release, release, internal=True)
