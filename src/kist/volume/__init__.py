"""Volumes: directories with a name that outlive containers, and their first filling from an image (copy-up)."""
