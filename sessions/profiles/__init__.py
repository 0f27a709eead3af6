"""Logins that survive their machine: browser profiles, packed, sealed, and kept in generations."""
