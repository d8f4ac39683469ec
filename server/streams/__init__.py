"""Fan-out: bytes to subscribers. It knows no requests and no database."""
