"""Which token buckets a request takes from, what they decide, and what the answer says of them."""
