"""The log of all sessions: its commits, and what is read from it."""
