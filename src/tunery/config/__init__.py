"""project.yaml -> a validated Project; overrides; fingerprint."""
