"""One attempt, what its outcome means, and when the next one is due."""
