"""Who calls: the kinds of proof that a request may bring, and the caller that it makes."""
