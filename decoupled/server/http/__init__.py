"""HTTP/1.1 in, calls of the pipeline out."""
