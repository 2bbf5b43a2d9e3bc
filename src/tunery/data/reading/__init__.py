"""Files, saved datasets and the Hub: rows as they are written."""
