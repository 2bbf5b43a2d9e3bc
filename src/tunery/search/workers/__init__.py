"""Who runs a study's trials: this process, others on this host, a Ray cluster."""
