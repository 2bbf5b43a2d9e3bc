"""Which settings are tried next, and which trials are ended early."""
