"""A small client of the Engine API: requests over a unix socket, TCP or TLS, streams, and connections taken over."""
