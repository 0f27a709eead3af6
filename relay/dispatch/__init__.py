"""The loop that delivers what waits for one endpoint, and its parts."""
