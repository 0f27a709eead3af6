"""Accept once, deliver at least once, in order per session."""
