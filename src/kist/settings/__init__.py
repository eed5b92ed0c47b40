"""How the daemon is told what to do: one table of options, from which flags, daemon.json, help and reload derive."""
