"""The HTTP server: the only package that knows aiohttp."""

VERSION = "0.1.0"
