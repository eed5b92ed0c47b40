"""kistd: the one place where the rooms are put together, the sockets it listens on, its start and its end."""
