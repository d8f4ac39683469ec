"""What callers can do besides commands: (parts, call) → value. Knows no HTTP beyond `Problem`, and no SQL."""
