"""The page for people on call, and what it asks for: how the system is doing, what became of a message, dead
letters."""
