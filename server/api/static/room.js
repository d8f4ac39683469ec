// The page of a class: it renders the session's stream and sends commands.

import { account, command } from "./api.js";
import { $, clock, el, linked, show, tell } from "./dom.js";
import { State } from "./state.js";
import { Stream, TYPES } from "./stream.js";

const FEED_KEPT = 200;
const TYPING_MS = 4_000;
const ANNOUNCED_MS = 8_000;
const WIDE = matchMedia("(min-width: 70.01rem)");
const OVER = {
  ended: "This class has ended.",
  kicked: "You were removed from this class.",
  left: "You have left this class.",
  unauthenticated: "You are logged out. Log in and open the class again.",
};
const CONNECTION = { connecting: "Connecting…", live: "Connected", waiting: "Reconnecting…", over: "Closed" };

export class Room {
  constructor(session, onLeft) {
    this.ref = session.id;
    this.onLeft = onLeft;
    this.me = account().user.id;
    this.state = null;
    this.connection = "connecting";
    this.typedAt = 0;
    this.following = true; // keeps the latest message in view, until the user scrolls up
    $("chat").replaceChildren();
    $("feed").replaceChildren();
    $("code").textContent = session.code;
    $("title").textContent = session.title;
    tell($("banner"));
    tell($("room-error"));
    show($("room"), true);
    $("feed-box").open = WIDE.matches;
    this.link = new URL(`?code=${session.code}`, new URL("./", location.href)).href;
    this.controls = new AbortController();
    this.wire();
    this.stream = new Stream(`v1/sessions/${this.ref}`, TYPES, {
      frame: (type, body, cursor) => this.receive(type, body, cursor),
      state: (connection, reason) => this.connected(connection, reason),
    });
  }

  close() {
    this.controls.abort();
    this.stream.close();
    this.resized.disconnect();
    show($("room"), false);
  }

  async run(type, fields) {
    try {
      tell($("room-error"));
      await command(this.ref, type, fields);
      return true;
    } catch (error) {
      tell($("room-error"), error.message);
      return false;
    }
  }

  wire() {
    const on = (id, event, act) => $(id).addEventListener(event, act, { signal: this.controls.signal });
    on("write", "submit", async (event) => {
      event.preventDefault();
      const text = $("text").value;
      $("text").value = "";
      if (!(await this.run("send_message", { text })) && !$("text").value) $("text").value = text;
    });
    on("text", "input", () => {
      if (Date.now() - this.typedAt < TYPING_MS / 2 || !this.state?.live) return;
      this.typedAt = Date.now();
      command(this.ref, "typing").catch(() => {});
    });
    on("chat", "scroll", () => {
      const box = $("chat");
      this.following = box.scrollHeight - box.scrollTop - box.clientHeight < 60;
    });
    this.resized = new ResizeObserver(() => { if (this.following) $("chat").scrollTop = $("chat").scrollHeight; });
    this.resized.observe($("chat"));
    on("hand", "click", () => this.run(this.state.hands.includes(this.me) ? "lower_hand" : "raise_hand"));
    on("voice", "click", () => this.run(this.state.you.muted ? "unmute" : "mute"));
    on("leave", "click", () => this.run("leave"));
    on("copy", "click", async () => {
      await navigator.clipboard?.writeText(this.link).catch(() => {});
      $("copy").textContent = navigator.clipboard ? "Copied" : this.link;
      setTimeout(() => { $("copy").textContent = "Copy link"; }, 3_000);
    });
    for (const button of document.querySelectorAll("[data-command]")) {
      button.addEventListener("click", () => {
        if (!button.dataset.confirm || confirm(button.dataset.confirm)) this.run(button.dataset.command);
      }, { signal: this.controls.signal });
    }
  }

  connected(connection, reason) {
    this.connection = connection;
    if (connection === "over") {
      tell($("banner"), OVER[reason] ?? "The connection to this class was closed. Reload the page to try again.");
      this.onLeft(reason);
    }
    this.draw();
  }

  receive(type, body, cursor) {
    this.logEvent(type, body, cursor);
    if (type === "snapshot") {
      this.state = new State(body, this.me);
      $("chat").replaceChildren();
    } else if (type === "typing") {
      this.state?.typing.set(body.actor, Date.now() + TYPING_MS);
      setTimeout(() => this.drawTyping(), TYPING_MS + 50);
    } else {
      this.state?.apply(type, body);
    }
    if (type === "unmute_requested" && body.user_id === this.me) tell($("banner"), "The teacher asks you to unmute yourself.");
    if (type === "participant_unmuted" && body.user_id === this.me) tell($("banner"));
    if (type === "hand_called") this.announce(body.user_id === this.me ? "It is your turn to speak." : `It is ${this.state.name(body.user_id)}'s turn to speak.`);
    this.draw();
  }

  announce(text) {
    tell($("banner"), text);
    setTimeout(() => $("banner").textContent === text && tell($("banner")), ANNOUNCED_MS);
  }

  // Redraw at most once per animation frame, however many events arrive.
  draw() {
    this.drawing ??= requestAnimationFrame(() => {
      this.drawing = null;
      this.drawHead();
      if (!this.state) return;
      this.drawPeople();
      this.drawChat();
      this.drawTyping();
    });
  }

  drawHead() {
    const { state, connection } = this;
    $("connection").textContent = CONNECTION[connection];
    $("connection").dataset.state = connection;
    if (!state) return;
    const { session } = state;
    document.title = `${session.title} · Homeroom`;
    $("title").textContent = session.title;
    $("status").textContent = state.lobby ? "lobby" : session.status;
    $("status").dataset.state = session.status;
    const here = state.here();
    $("counts").textContent = `${here.length} here, ${here.filter((person) => person.online).length} online`;
    if (state.lobby) tell($("banner"), "You are in the lobby. A host will let you in.");
    else if (session.status === "scheduled") tell($("banner"), "The class has not started yet.");
    else if (/lobby|not started/.test($("banner").textContent)) tell($("banner"));
    const open = connection !== "over" && !state.lobby;
    const joined = state.you?.status === "joined";
    for (const control of document.querySelectorAll("#write input, #write button, .talk .tools button, #moderation button")) {
      control.disabled = !open || (!state.live && control.id !== "leave");
    }
    for (const id of ["hand", "voice", "leave"]) show($(id), joined);
    show($("moderation"), state.moderator);
    const raised = state.hands.includes(this.me);
    $("hand").lastChild.textContent = raised ? "Lower hand" : "Raise hand";
    $("hand").setAttribute("aria-pressed", raised);
    $("voice").lastChild.textContent = state.you?.muted ? "Unmute me" : "Mute me";
    $("voice").firstChild.className = state.you?.muted ? "icon muted" : "icon voice";
    $("voice").setAttribute("aria-pressed", Boolean(state.you?.muted));
  }

  drawPeople() {
    const { state } = this;
    show($("queue"), state.hands.length > 0);
    $("hands").replaceChildren(...state.hands.map((id) => el("li", {}, state.name(id))));
    $("roster").replaceChildren(...state.here().map((person) => this.person(person)));
  }

  person(person) {
    const { state } = this;
    const marks = [
      state.hands.includes(person.user_id) && icon("hand", "hand raised"),
      person.muted && icon("muted", "muted"),
    ];
    const may = state.moderator && person.user_id !== this.me && person.user_id !== state.session.owner.id && state.live;
    const act = (label, type, fields, question) => el("button", {
      class: "small", "aria-label": `${label} ${person.name}`,
      onclick: () => (!question || confirm(question)) && this.run(type, { user_id: person.user_id, ...fields }),
    }, label);
    return el("li", { class: person.online ? "online" : "offline" },
      avatar(person.name, person.number),
      el("span", { class: "name" }, person.name, person.user_id === this.me && " (you)",
        el("span", { class: "quiet small" }, [person.role === "member" ? "" : person.role, person.online ? "" : "away"].filter(Boolean).join(" · "))),
      el("span", { class: "marks" }, ...marks),
      may && el("span", { class: "actions" },
        person.muted ? act("Unmute", "unmute") : act("Mute", "mute"),
        act("Remove", "kick", {}, `Remove ${person.name} from the class?`)));
  }

  drawChat() {
    const box = $("chat");
    const known = new Map([...box.children].map((item) => [item.dataset.key, item]));
    const wanted = this.state.chat.map((message) => {
      const version = JSON.stringify([message.deleted, message.reactions, this.state.name(message.user_id), this.state.live, this.connection === "over"]);
      const old = known.get(String(message.message_id));
      if (old?.dataset.version === version) return old;
      const item = this.message(message);
      Object.assign(item.dataset, { key: message.message_id, version });
      old?.replaceWith(item);
      return item;
    });
    const keep = new Set(wanted);
    for (const item of [...box.children]) if (!keep.has(item)) item.remove();
    wanted.forEach((item, index) => { if (box.children[index] !== item) box.insertBefore(item, box.children[index] ?? null); });
    if (!wanted.length) box.replaceChildren(el("li", { class: "empty quiet" }, "No messages yet."));
    if (this.following) box.scrollTop = box.scrollHeight;
  }

  message(message) {
    const { state } = this;
    const mine = message.user_id === this.me;
    const answered = message.reply_to && state.chat.find((other) => other.message_id === message.reply_to);
    const react = (emoji, users) => {
      const remove = users.includes(this.me);
      const names = users.map((id) => state.name(id)).join(", ");
      return el("button", {
        class: users.length ? "reaction" : "reaction add", "aria-pressed": String(remove), title: names,
        "aria-label": users.length ? `${emoji} ${users.length}: ${names}` : `React with ${emoji}`, disabled: this.connection === "over",
        onclick: () => this.run("react", { message_id: message.message_id, emoji, ...(remove && { remove }) }),
      }, users.length ? `${emoji} ${users.length}` : emoji);
    };
    const reactions = Object.entries(message.reactions);
    const first = !message.deleted && !mine && !message.reactions["👍"] && state.live && this.connection !== "over";
    return el("li", { class: mine ? "message mine" : "message" },
      !mine && avatar(state.name(message.user_id), state.people.get(message.user_id)?.number),
      el("div", { class: "bubble" },
        el("p", { class: "by" }, el("strong", {}, mine ? "You" : state.name(message.user_id)),
          message.to && el("span", { class: "private" }, `only to ${message.to === this.me ? "you" : state.name(message.to)}`),
          el("time", { datetime: message.at, class: "quiet" }, clock(message.at)), first && react("👍", [])),
        answered && !answered.deleted && el("p", { class: "quote" }, `${state.name(answered.user_id)}: ${answered.text}`),
        message.deleted ? el("p", { class: "quiet" }, "deleted") : el("p", { class: "text" }, ...linked(message.text)),
        reactions.length > 0 && el("p", { class: "reactions" }, ...reactions.map(([emoji, users]) => react(emoji, users)))));
  }

  drawTyping() {
    if (!this.state) return;
    const names = [...this.state.typing].filter(([id, until]) => until > Date.now() && id !== this.me).map(([id]) => this.state.name(id));
    $("writing").textContent = names.length ? `${names.slice(0, 3).join(", ")} ${names.length > 1 ? "are" : "is"} writing…` : " ";
  }

  logEvent(type, body, cursor) {
    const { seq, at, actor, type: _, ...rest } = body;
    const detail = type === "snapshot" ? `cursor ${cursor}` : Object.entries(rest).map(([name, value]) => `${name}=${JSON.stringify(value)}`).join(" ");
    const feed = $("feed");
    feed.prepend(el("li", { class: seq ? "" : "unkept" },
      el("span", { class: "seq" }, seq ?? "·"), el("span", { class: "type" }, type), el("span", { class: "detail" }, detail)));
    while (feed.children.length > FEED_KEPT) feed.lastChild.remove();
    $("cursor").textContent = cursor ?? "";
  }
}

const HUES = 8;

const icon = (name, label) => el("span", { class: `icon ${name}`, title: label, role: "img", "aria-label": label });

function avatar(name, number = 0) {
  const initials = name.split(/\s+/).filter((word) => /^\p{L}[^.]*$/u.test(word)).map((word) => [...word][0]).join("");
  return el("span", { class: `avatar hue-${number % HUES}`, "aria-hidden": "true" }, [...initials].slice(-2).join("").toUpperCase() || "?");
}
