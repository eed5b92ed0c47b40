"""What the engine remembers: records in SQLite, blobs by digest in OCI layout, and the lock that keeps roots apart."""
