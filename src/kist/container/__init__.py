"""The engine's verbs: create, start, stop, attach, exec, logs, remove and what else can be done with a container.

`machine` holds one container of this engine while kistd runs, `index` finds it, and each verb has a module. What is
decided (`configure`, `binds`, `filters`) is pure; what acts goes through the runtime's supervisor and the stores.
"""
