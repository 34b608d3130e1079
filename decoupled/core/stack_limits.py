"""The limits of what only a stack on AWS has, with their units; as in `limits.py`, one that AWS sets says so."""

MAX_SECRET_BYTES = 65_536  # AWS: of a stack's secret
SECRET_LOOK_S = 300.0  # between two readings of it,
SECRET_AGAIN_S = 10.0  # and at least, where one failed or something is missed in it
ID_KEY_LEAD_S = 900  # that a new key is known before ids are signed with it: three of these
STARTING_RETRY_S = 2  # after which a client may ask a function again that could not start
MAX_WATCH_S = 180 * 60  # AWS: that CloudFormation watches alarms after a change
