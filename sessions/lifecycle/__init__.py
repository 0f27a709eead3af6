"""The life of sessions: which of several with one phone stays, what is stale, and what Laravel's table says of them."""
