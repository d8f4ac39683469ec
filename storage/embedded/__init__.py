"""PostgreSQL as a child process of Homeroom, with its data in the data directory."""
