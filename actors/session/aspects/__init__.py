"""The aspects of a session, one module each: the rules of its commands and the effects of its events.

A handler has the name of its command. It returns events, or raises Rejected with the reason for a refusal.
An applier is called `on_…`. It changes the state in place, and never raises.
"""
