"""Sending what containers write to log servers: the drivers, the interface they and plug-ins have, and the process.

One shipper per engine. It follows the files that monitors write and keeps how far it has come in a file beside them, so
that neither kistd's end nor its own nor the server's loses a line; what a crash cut off is sent once more.
"""
