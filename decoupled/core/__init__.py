"""What the words mean: plain data and pure functions. No I/O, no engine, no clock but where it is asked for."""
