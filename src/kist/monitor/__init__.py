"""What runs outside kistd, so that containers do not depend on it: the zygote, a monitor per container, its init.

The zygote is warm and forks; a monitor is the parent of one container, owns its streams and its log, keeps its exit
status, and outlives the daemon; init becomes the container's first process. No module here may import more than the
kernel room, the log writer and a few of Python's own: every import is memory in each monitor.
"""
