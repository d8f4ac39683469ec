"""Rooms for audio and video, at one of several providers (`builtin`, `daily`).

`providers` defines what a provider is; `provisioning` creates rooms, gives access to them and deletes them; `relay`
passes a session's events on to its provider; `daily_webhooks` and `recording_poll` report what happened at a provider.
"""
