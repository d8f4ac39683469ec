// The front page: log in or register, and create or join a class.

import { account, call, command, enterBy, forget, logIn, logOut, register, registerNewcomer } from "./api.js";
import { $, el, show, tell } from "./dom.js";
import { Invitations } from "./invitations.js";
import { Room } from "./room.js";

let room = null;
let invitations = null;

const codeInLink = () => (new URLSearchParams(location.search).get("code") ?? "").trim().toUpperCase();

async function home() {
  leave();
  document.title = "Homeroom";
  const user = account()?.user;
  if (user) invitations = new Invitations(accept);
  const code = codeInLink();
  who();
  show($("home"), true);
  show($("teach"), !user && !code);
  show($("have-account"), !user && code);
  show($("create"), user?.role === "teacher");
  show($("join-name-label"), !user);
  $("join").elements.name.required = !user;
  $("join").querySelector(".small").hidden = Boolean(user);
  $("join").elements.code.value = code;
  $("home-title").textContent = code ? "You are invited to a class" : "A live class, in a minute";
  tell($("home-text"), code
    ? "Type your name to join."
    : "A teacher creates a class and shares its link. Students open the link, type a name, and join.");
  ($("join").elements[code && !user ? "name" : "code"]).focus({ preventScroll: true });
  if (user?.role === "teacher") await mine();
}

function who() {
  const user = account()?.user;
  $("me").textContent = user?.name ?? "";
  show($("log-out"), user);
}

async function mine() {
  const { items } = await call("GET", `v1/sessions?owner=${account().user.id}&limit=20`);
  const open = items.filter((session) => ["scheduled", "live"].includes(session.status));
  show($("mine"), open.length > 0);
  $("mine-list").replaceChildren(...open.map((session) =>
    el("li", {}, el("a", { href: `?code=${session.code}` }, session.title), " ", el("span", { class: "pill", "data-state": session.status }, session.status))));
}

// Close the streams of the view that was visible before.
function leave() {
  room?.close();
  invitations?.close();
  room = invitations = null;
}

// Join by the link of a room, which contains the room's name and a token.
async function enterRoom(name, token) {
  history.replaceState(null, "", "./");
  if (token) enterBy(token);
  await command(name, "join");
  inside(await call("GET", `v1/sessions/${name}`));
}

async function enter(code) {
  const { session } = await call("POST", "v1/sessions/join", { code });
  inside(session);
}

async function accept(id) {
  tell($("home-error"));
  try {
    await command(id, "join");
    inside(await call("GET", `v1/sessions/${id}`));
  } catch (error) {
    tell($("home-error"), error.message);
  }
}

function inside(session) {
  history.replaceState(null, "", `?code=${session.code}`);
  show($("home"), false);
  who();
  leave();
  room = new Room(session, (reason) => { if (reason === "unauthenticated") forget(); });
}

// Run `work` when a form is submitted. Meanwhile its button is disabled; an error appears above the forms.
function onSubmit(id, work) {
  $(id).addEventListener("submit", async (event) => {
    event.preventDefault();
    const form = event.target;
    const button = form.querySelector("button.primary");
    button.disabled = true;
    tell($("home-error"));
    try {
      await work(form.elements);
    } catch (error) {
      tell($("home-error"), error.message);
      who();
    } finally {
      button.disabled = false;
    }
  });
}

onSubmit("join", async (fields) => {
  if (!account()) await registerNewcomer(fields.name.value.trim());
  await enter(fields.code.value.trim().toUpperCase());
});

onSubmit("teach", async (fields) => {
  const { name, email, password } = fields;
  if (fields.how.value === "login") await logIn(email.value.trim(), password.value);
  else await register(name.value.trim(), "teacher", email.value.trim(), password.value);
  password.value = "";
  if (codeInLink()) await enter(codeInLink());
  else await home();
});

onSubmit("create", async (fields) => {
  const session = await call("POST", "v1/sessions", { title: fields.title.value.trim() });
  fields.title.value = "";
  await enter(session.code);
});

$("have-account").addEventListener("click", () => {
  show($("teach"), true);
  show($("have-account"), false);
  $("teach").elements.how[1].click();
  $("teach").elements.email.focus();
});

for (const choice of $("teach").elements.how) {
  choice.addEventListener("change", () => {
    const fresh = $("teach").elements.how.value === "register";
    show($("teach-name-label"), fresh);
    $("teach").elements.name.required = fresh;
    $("teach").elements.password.autocomplete = fresh ? "new-password" : "current-password";
  });
}

$("log-out").addEventListener("click", async () => {
  await logOut();
  history.replaceState(null, "", "./");
  await home();
});

// A user who is logged in joins at once: after a reload, or by the link of another class.
try {
  const link = new URLSearchParams(location.search);
  if (link.get("room")) await enterRoom(link.get("room"), link.get("t"));
  else if (account() && codeInLink()) await enter(codeInLink());
  else await home();
} catch (error) {
  if (error.status === 401) forget();
  await home().catch(() => {});
  tell($("home-error"), error.message);
}
