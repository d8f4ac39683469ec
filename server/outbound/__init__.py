"""Messages to other systems, from rows of an outbox: at least once, in order, never awaited by a session."""
