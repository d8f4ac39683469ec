"""Push messages: they reach users' devices while no client is open there.

`messages` defines what a provider is; `none` and `fcm` are providers; `oauth` gets access tokens for FCM; `invitations`
sends.
"""
