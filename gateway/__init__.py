"""The edge: every request comes in here."""
