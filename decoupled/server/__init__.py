"""`decoupled serve`: one machine, one process that writes, and the processes beside it."""
