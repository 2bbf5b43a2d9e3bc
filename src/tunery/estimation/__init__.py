"""Whether a training fits the memory there is, before anything is loaded."""
