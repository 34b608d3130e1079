"""The tools beside the server, one module a command of `decoupled`: they parse what was typed, show what came of it and
choose the exit status. What they do stands elsewhere."""
