"""Requests for workers: which worker has the session, and what is answered while none does."""
