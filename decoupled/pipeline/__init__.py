"""What happens to a message, wherever it runs: received, processed, settled, told of. It is given its engine."""
