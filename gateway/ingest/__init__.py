"""What comes in to be delivered later: webhooks, and events that are published."""
