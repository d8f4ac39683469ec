"""PostgreSQL inside the data directory, run by Homeroom."""
