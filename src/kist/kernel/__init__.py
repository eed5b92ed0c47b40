"""The only room that calls the kernel: one thin, typed wrapper a system call, constants under the kernel's own names.

The zygote and the monitors import from here, so nothing in it may import more than os, struct, socket and ctypes.
"""
