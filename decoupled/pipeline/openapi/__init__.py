"""What the API is to those who write clients: an OpenAPI 3.1 document. Pure."""
