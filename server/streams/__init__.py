"""Fan-out: bytes to subscribers. Knows no request and no database."""
