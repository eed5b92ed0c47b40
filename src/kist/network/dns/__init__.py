"""The name server at 127.0.0.11 of containers in user-defined networks.

`names` is what the network service tells (the contract), `message` the wire format, `resolver` decides, `upstream`
asks other servers, `server` serves one container's sockets, `service` all of them. The sockets are opened in the
container's network namespace by `kist.monitor.nameserver` and held by its monitor: kistd may be started anew meanwhile.
"""
