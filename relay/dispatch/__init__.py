"""The loop that moves the deliveries of one endpoint."""
