"""Push messages: what reaches people's devices while nothing of ours is open on them.

`messages` says what a provider is; `none` and `fcm` are providers, `oauth` is how FCM knows us; `invitations` sends.
"""
