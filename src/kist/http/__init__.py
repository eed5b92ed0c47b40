"""A small HTTP/1.1 server: connections, requests as they arrive, streamed answers, and connections handed over whole.

No framework: attach and exec take a connection away from HTTP, with every byte that came behind the request, and give
it to another process. A server that forgets bytes there cannot be used: httptools parses, this does the rest.
"""
