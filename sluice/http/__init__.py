"""HTTP/1.1: fields, the client connection, the server side, and signatures of messages."""
