#!lua flags=allow-oom
-- Put before scripts that need little memory or give some back: a store that is full must still be emptied.
