"""Records of a session, made from its log: who was there, what was said, exports, recordings, replays."""
