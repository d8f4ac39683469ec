"""Homeroom's own API: its route rows and the shapes of its answers. Everything here is pure: values in, bytes out."""
