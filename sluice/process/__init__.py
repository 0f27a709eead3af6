"""Loops that can be stopped, child processes, and the addresses of both."""
