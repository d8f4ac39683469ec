"""Rooms for audio and video: who makes them (`builtin`, `daily`), and what a session has to do with its room.

`providers` says what a provider is; `keeper` makes rooms and has them deleted; `errands` does at a provider what has
happened in a session; `inbox` takes in what a provider says.
"""
