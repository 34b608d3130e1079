"""HTTP/1.1 in, events of API Gateway out."""
