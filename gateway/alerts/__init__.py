"""Who is told what goes wrong, when, and how often (docs/alerts.md).

`decide` says it, purely. `engine` runs it in one gateway at a time, `board` is what lies in the store, and `send` has
the ways out: webhooks, mail and commands, which share nothing with the relay.
"""
