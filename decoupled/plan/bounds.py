"""How much a plan looks at, at most: it ends in seconds, whatever is asked of it."""

MAX_TIMES = 10_000_000  # read of a file
MAX_BINS = 40_000  # pieces of time, each for itself
MAX_SPAN_S = 200 * 86_400.0  # from the first order to the last one, or the end of the last outage
MAX_TRIES = 100_000  # of one order that is followed,
FOLLOWED_TRIES = 300_000  # and of all of them, about
