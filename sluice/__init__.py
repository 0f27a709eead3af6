"""What is not the edge, the relay or the sessions: command line, console, and the ground all of them stand on."""

__version__ = "0.1.0"
