"""The limits of what only a stack on AWS has, with their units; as in `limits.py`, one that AWS sets says so."""

MAX_SECRET_BYTES = 65_536  # AWS: of a stack's secret
SECRET_LOOK_S = 300.0  # between two readings of it,
SECRET_AGAIN_S = 10.0  # and at least, where one failed or something is missed in it
ID_KEY_LEAD_S = 900  # that a new key is known before ids are signed with it: three of these
STARTING_RETRY_S = 2  # after which a client may ask a function again that could not start
MAX_WATCH_S = 45 * 60  # that alarms are watched after a change: CloudFormation could for 180, but is waited for an hour
MAX_BATCH_WINDOW_S = 60  # that a batch is gathered for: queues hide a message for so much longer

# AWS hides a message for twelve hours in all, from when it was received, and refuses to hide it for longer.
MAX_HIDDEN_S = 43_200 - 60  # that it is asked to: most batches are done within a minute,
SURELY_HIDDEN_S = 43_200 - 5_700  # and if it refuses that: none outlives its queue's visibility timeout and a window

MAX_HOPS = 1_000  # messages that come of one another, each emitting the next,
HOPS_FORGOTTEN_S = 3_600  # but for one that is due so much later
MAX_TAG_KEY_CHARS, MAX_TAG_VALUE_CHARS = 128, 256  # AWS

QUEUE_KEEPS_S = 864_000  # a message, as the template has it; a test compares them
EDITS_KEPT_S = 400 * 86_400  # for which a stack keeps the body that a dead letter had before somebody changed it
