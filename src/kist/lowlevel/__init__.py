"""`kist-runtime`: an OCI runtime command (runtime-spec, runtime.md) on the engine's own plan and starter.

A configuration becomes the same operations as a container of the engine; a few stations are put between them (`steps`),
at which init waits for `start` and hooks are run. Everything the command keeps is one directory per container below
`--root`.
"""
