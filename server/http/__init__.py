"""Pieces of HTTP and its RFCs: problems, JSON bodies, multipart, ranges, pages, timestamps. Knows no session."""
