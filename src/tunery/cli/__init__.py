"""The command line: a verb per entry point; thin."""

from tunery.cli.verbs import main as main
