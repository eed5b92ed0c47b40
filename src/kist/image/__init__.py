"""Images: what they are made of, how they come in (load, import, bootstrap) and go out (save), their names."""
