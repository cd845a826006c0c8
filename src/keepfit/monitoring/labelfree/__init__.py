"""How accurate the answers are, estimated without labels, and corrected by those that come in."""
