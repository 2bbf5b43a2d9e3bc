"""Conversations become token ids, through the base's chat template or plainly, and which of them are learned."""
