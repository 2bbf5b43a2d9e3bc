"""Using what was trained: a chat page, and folders that other tools load."""
