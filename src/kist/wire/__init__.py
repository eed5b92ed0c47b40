"""The Engine API's values on the wire: reading requests as forgivingly as Docker does, writing answers as it does."""
