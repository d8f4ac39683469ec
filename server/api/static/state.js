// The page's view of a session: a snapshot, with all later events applied to it as docs/state.md describes.

export class State {
  constructor(snapshot, me) {
    this.me = me;
    this.cursor = snapshot.cursor;
    this.session = snapshot.session;
    this.people = new Map(snapshot.participants.map((person) => [person.user_id, person]));
    if (snapshot.you) this.people.set(me, snapshot.you);
    this.hands = snapshot.hands.map((hand) => hand.user_id);
    this.chat = snapshot.chat;
    this.typing = new Map();
    this.names = new Map([[this.session.owner.id, this.session.owner.name]]);
    for (const message of this.chat) if (message.name) this.names.set(message.user_id, message.name);
    for (const person of this.people.values()) this.names.set(person.user_id, person.name);
  }

  get you() { return this.people.get(this.me); }
  get live() { return this.session.status === "live"; }
  get moderator() { return this.session.owner.id === this.me || (this.you?.permissions.includes("moderate") ?? false); }
  get lobby() { return this.you?.status === "waiting"; }

  here() {
    return [...this.people.values()].filter((person) => person.status === "joined").sort((a, b) => a.number - b.number);
  }

  name(id) { return id === null ? "Homeroom" : this.names.get(id) ?? "Someone"; }

  apply(type, event) {
    APPLY[type]?.(this, event, this.people.get(event.user_id) ?? {});
  }
}

const depart = (status) => (state, event, person) => {
  person.status = status;
  person.online = false;
  state.hands = state.hands.filter((id) => id !== event.user_id);
};
const session = (changes) => (state) => Object.assign(state.session, changes);
const lowered = (state, event) => { state.hands = state.hands.filter((id) => id !== event.user_id); };
// If a change makes other parts of the session visible, or hides them, the server sends a new snapshot after it.
const rightsChanged = (state, event, person) => {
  person.role = event.role ?? person.role;
  person.permissions = event.permissions ?? person.permissions ?? [];
  person.muted ||= !person.permissions.includes("speak");
};
const CHAT_KEPT = 300;

// Events omit fields that have their default value.
const APPLY = {
  session_started: session({ status: "live" }),
  session_ended: session({ status: "ended" }),
  session_cancelled: session({ status: "cancelled" }),
  session_locked: session({ locked: true }),
  session_unlocked: session({ locked: false }),
  session_updated: (state, { type, seq, at, actor, ...changes }) => Object.assign(state.session, changes),
  participant_joined: (state, event, person) => {
    state.names.set(event.user_id, event.name);
    state.people.set(event.user_id, {
      ...person,
      user_id: event.user_id, number: event.number, name: event.name, role: event.role, status: "joined",
      online: event.online ?? false, muted: event.muted ?? false, permissions: event.permissions ?? person.permissions ?? [],
    });
  },
  participant_left: depart("left"),
  participant_kicked: depart("kicked"),
  participant_denied: depart("denied"),
  participant_online: (state, event, person) => { person.online = true; },
  participant_offline: (state, event, person) => { person.online = false; },
  connections_lost: (state, event) => { for (const id of event.user_ids) if (state.people.has(id)) state.people.get(id).online = false; },
  role_changed: rightsChanged,
  permissions_changed: rightsChanged,
  participant_muted: (state, event, person) => { person.muted = true; },
  participant_unmuted: (state, event, person) => { person.muted = false; },
  all_muted: (state, event) => { for (const id of event.user_ids) if (state.people.has(id)) state.people.get(id).muted = true; },
  hand_raised: (state, event) => { if (!state.hands.includes(event.user_id)) state.hands.push(event.user_id); },
  hand_lowered: lowered,
  hand_called: lowered,
  hands_lowered: (state) => { state.hands = []; },
  chat_message: (state, event) => {
    state.typing.delete(event.actor);
    state.chat.push({ message_id: event.message_id, user_id: event.actor, text: event.text, at: event.at, to: event.to ?? null,
      reply_to: event.reply_to ?? null, deleted: event.deleted ?? false, reactions: {} });
    if (state.chat.length > CHAT_KEPT) state.chat.shift();
  },
  message_deleted: (state, event) => {
    const message = state.chat.find((known) => known.message_id === event.message_id);
    if (message) Object.assign(message, { deleted: true, text: "", reactions: {} });
  },
  message_reacted: (state, event) => {
    const message = state.chat.find((known) => known.message_id === event.message_id);
    if (!message) return;
    const others = (message.reactions[event.emoji] ?? []).filter((id) => id !== event.actor);
    message.reactions[event.emoji] = event.removed ? others : [...others, event.actor];
    if (!message.reactions[event.emoji].length) delete message.reactions[event.emoji];
  },
};
