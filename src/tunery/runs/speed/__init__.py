"""How fast a model writes: `tunery evaluate --speed`."""
