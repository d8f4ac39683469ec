"""Homeroom's own API: tables of routes, and the shapes of what they say."""
