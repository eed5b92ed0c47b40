"""The engine's vocabulary: frozen values and typed errors that every other room speaks. Nothing here does I/O."""
