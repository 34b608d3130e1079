"""Fronts: processes that have the clients, beside the writer's."""
