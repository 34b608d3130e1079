"""The use cases that come with decoupled, a file each, served by their bare names."""
