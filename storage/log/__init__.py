"""The log of the sessions: writing it, and the readings made from it."""
