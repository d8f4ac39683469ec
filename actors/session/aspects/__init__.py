"""The aspects of a session, one module each: its commands' rules (`HANDLERS`) and its events' effects (`APPLIERS`)."""
