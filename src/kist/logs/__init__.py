"""What containers wrote: the writer that a monitor uses, and the readers behind `logs`.

The format is Docker's json-file: one JSON object a line with `log`, `stream` and `time`.
"""
