"""Base model (hub, folder, builtin), quantisation, adapters."""
