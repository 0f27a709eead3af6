"""The ground everything else stands on: policies, the store, loops, logs, metrics, signatures, HTTP/1.1."""
