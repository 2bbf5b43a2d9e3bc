"""Results that other tools wrote, read and kept as runs."""
