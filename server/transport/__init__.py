"""One TCP connection: limits, fast lane, hand-over to aiohttp. Only this package uses aiohttp's private parts."""
