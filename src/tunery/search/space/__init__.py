"""What is searched: parameters, derived keys, known-good settings, and checks of all of it."""
