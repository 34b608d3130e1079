"""What leaves for addresses that a client named."""
