"""The outbox: sends that meet a limit with `over: queue` are stored, and given to workers at the session's pace."""
