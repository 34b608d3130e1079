"""Where messages, records and items are kept: protocols, and a room for each engine with its driver's only import."""
