"""One TCP connection: limits, fast lane, hand-over to aiohttp. No other package uses aiohttp's private parts."""
