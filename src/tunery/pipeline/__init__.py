"""One run: data -> model -> training -> evaluation -> tracking."""
