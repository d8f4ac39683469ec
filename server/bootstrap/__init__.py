"""Constructs everything, starts it, and stops it in reverse order. Nothing else constructs long-lived objects."""
