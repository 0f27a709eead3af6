"""Everything that a person can ask of a running Sluice or do to it: one function for each verb.

A function takes the deployment and a typed request, and answers a typed result or a `Problem`; it raises StoreAway or
StoreRefused. Page, HTTP API and command line are thin layers over the table in `sluice.console.operations`.
"""
