"""What is searched: parameters, derived values, checks, and points known beforehand."""
