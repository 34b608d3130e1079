"""Which messages are handed out, when, and how many."""
