"""What callers can do besides commands: (services, call) to a value. Knows no HTTP beyond `Problem`, and no SQL."""
