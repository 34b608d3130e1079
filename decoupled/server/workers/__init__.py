"""The processes that decide: their two ends, and what goes between them."""
