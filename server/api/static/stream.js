// A live stream: a session's, or the user's notifications. It reconnects with its cursor until the server ends it.
// A ticket opens only one stream, so that EventSource's own reconnection cannot be used.

import { call } from "./api.js";

const LONGEST_WAIT_MS = 10_000;
// EventSource delivers only the event types that have a listener.
export const TYPES = [
  "snapshot", "resumed", "reset", "bye",
  "session_created", "session_started", "session_ended", "session_cancelled", "session_updated", "session_locked",
  "session_unlocked", "session_deleted",
  "participant_invited", "participant_waiting", "participant_joined", "participant_denied", "participant_left",
  "participant_kicked", "participant_online", "participant_offline", "connections_lost", "role_changed",
  "permissions_changed", "participant_muted", "participant_unmuted", "all_muted", "unmute_requested",
  "hand_raised", "hand_lowered", "hands_lowered", "hand_called",
  "chat_message", "message_deleted", "message_reacted",
  "media_changed", "audio_selected", "audio_play", "audio_pause", "audio_seek", "audio_speed", "audio_stop",
  "audio_ended",
  "question_asked", "question_approved", "question_upvoted", "question_answered", "question_dismissed",
  "poll_opened", "poll_voted", "poll_closed",
  "code_edited", "code_merged", "code_compacted", "language_changed",
  "board_drawn", "board_erased", "board_cleared", "board_restored", "recording_started", "recording_stopped", "recording_updated",
  "event_logged", "audio_uploaded", "signal", "cursor", "typing",
];
export const OWN = ["snapshot", "resumed", "reset", "bye", "session_invitation", "invitation_closed"];

export class Stream {
  // `of` is a session's path or "v1/me"; `types` are the event types of its frames.
  // Calls `on.frame(type, body, cursor)` for every frame, and
  // `on.state("connecting" | "live" | "waiting" | "over", reason)` when the connection changes.
  constructor(of, types, on) {
    this.of = of;
    this.types = types;
    this.on = on;
    this.cursor = null;
    this.failures = 0;
    this.over = false;
    this.wake = () => document.visibilityState === "visible" && this.timer && this.connect();
    addEventListener("online", this.wake);
    document.addEventListener("visibilitychange", this.wake);
    this.connect();
  }

  async connect() {
    clearTimeout(this.timer);
    this.timer = null;
    this.source?.close();
    this.on.state("connecting");
    try {
      const { ticket } = await call("POST", `${this.of}/tickets`);
      if (this.over) return;
      const query = new URLSearchParams({ ticket });
      if (this.cursor) query.set("cursor", this.cursor);
      this.source = new EventSource(`${this.of}/events?${query}`);
    } catch (error) {
      if ([401, 403, 404, 410].includes(error.status)) this.finish(error.reason);
      else this.later();
      return;
    }
    this.source.onerror = () => this.later();
    for (const type of this.types) this.source.addEventListener(type, (frame) => this.receive(type, frame));
  }

  receive(type, frame) {
    const body = JSON.parse(frame.data);
    if (frame.lastEventId) this.cursor = frame.lastEventId;
    this.failures = 0;
    if (type === "snapshot" || type === "resumed") this.on.state("live");
    if (type === "reset") this.cursor = null;
    this.on.frame(type, body, this.cursor);
    if (type !== "bye") return;
    if (body.reason === "admitted") this.cursor = null;
    if (body.retry === null) this.finish(body.reason);
    else this.later(body.retry);
  }

  later(wait) {
    this.source?.close();
    if (this.over || this.timer) return;
    const backoff = Math.min(500 * 2 ** this.failures, LONGEST_WAIT_MS) * (0.5 + Math.random() / 2);
    this.failures += 1;
    this.on.state("waiting");
    this.timer = setTimeout(() => this.connect(), wait ?? backoff);
  }

  finish(reason) {
    this.close();
    this.on.state("over", reason);
  }

  close() {
    this.over = true;
    clearTimeout(this.timer);
    this.source?.close();
    removeEventListener("online", this.wake);
    document.removeEventListener("visibilitychange", this.wake);
  }
}
