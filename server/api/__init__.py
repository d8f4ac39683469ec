"""A row becomes an answer: authenticate, decode, count, call, print. All HTTP handling of rows is here."""
