"""From what a user asked of a container to a running one: OCI configuration, plan, zygote, monitors.

`spec` turns a record into an OCI runtime-spec configuration, `plan` turns that into operations (both pure), and
`supervisor` sends them to monitors and hears what happens.
"""
