"""Backups: all that Sluice keeps in its store in one file, read while everything runs, and back into an empty store."""
