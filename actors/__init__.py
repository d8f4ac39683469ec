"""Actors: the session machine, the mailbox around it, the group commit and the directory.

Nothing here knows HTTP or SQL: `ports` declares what the actors need, as protocols.
"""
