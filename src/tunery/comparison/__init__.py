"""Runs of any project and origin, read from MLflow, grouped, tested and ranked on one leaderboard."""
