"""Actors: the session machine, the mailbox around it, the group commit and the directory.

Nothing here knows HTTP or SQL; what it needs of them it declares as protocols.
"""
