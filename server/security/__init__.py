"""Who may call, and how often: tokens, issuers, passwords, rate limits, signed URLs, encrypted secrets."""
