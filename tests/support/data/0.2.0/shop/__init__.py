"""The workloads of shop."""
