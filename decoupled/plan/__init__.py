"""What a system costs and how far it goes, worked out: `decoupled plan`. Pure, but for its own data files."""
