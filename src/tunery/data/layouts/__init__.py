"""Rows become conversations: how they are laid out, what their columns and keys are called, what nobody read."""
