"""What every report draws and words with."""
