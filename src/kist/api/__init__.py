"""Docker's Engine API: one module of routes per resource, versions negotiated, errors mapped in one place."""
