"""The session machine: pure rules over commands, events and state.

**Law:** it imports the standard library and msgspec only. It has no clock, randomness or I/O and generates no ids; time
and new ids come with the commands. A rejected command changes nothing, and `replay(log) == state`.
"""
