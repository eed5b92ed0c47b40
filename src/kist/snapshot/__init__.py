"""Snapshots: the file systems of images (committed, read-only) and containers (active, writable).

`contract` says what a driver does; `overlay` and `vfs` do it. A driver returns mounts and never mounts.
"""
