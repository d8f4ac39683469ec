"""The session machine: pure rules over commands, events and state.

**Law:** standard library and msgspec only. No clock, randomness, I/O or ids of its own making: `now` and
new ids travel in. A rejected command changes nothing; `replay(log) == state`.
"""
