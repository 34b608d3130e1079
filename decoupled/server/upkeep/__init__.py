"""What a server does beside its requests, for the years."""
