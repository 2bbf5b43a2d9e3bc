"""Which settings are tried next (drawn, or known beforehand), and which trials are ended early."""
