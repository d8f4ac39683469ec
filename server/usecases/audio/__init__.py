"""Audio files: the library, uploads, what an upload contains, and access by number."""
