// A client of the public API for the account of this tab. Closing the tab deletes the credentials (sessionStorage).

const KEY = "homeroom";

export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || "The server cannot be reached. Check your connection and try again.");
    this.status = status;
    this.reason = problem.reason;
  }
}

export function account() {
  return JSON.parse(sessionStorage.getItem(KEY));
}

export function forget() {
  sessionStorage.removeItem(KEY);
}

function keep(login) {
  const { user, access_token, refresh_token } = login;
  sessionStorage.setItem(KEY, JSON.stringify({ user, access_token, refresh_token }));
  return user;
}

export async function register(name, role, email, password) {
  return keep(await send("POST", "v1/auth/register", { name, role, email, password }));
}

export async function logIn(email, password) {
  return keep(await send("POST", "v1/auth/login", { email, password }));
}

export async function logOut() {
  await call("POST", "v1/auth/logout").catch(() => {});
  forget();
}

// Use the token from a room's link: it is valid for the room's session and states whose it is.
export function enterBy(token) {
  const part = token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
  const claims = JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(part), (c) => c.charCodeAt(0))));
  const user = { id: claims.sub, number: claims.number, name: claims.name, role: claims.role };
  return keep({ user, access_token: token, refresh_token: "" });
}

// Create an account for this tab only. Its random password is not stored anywhere.
export function registerNewcomer(name) {
  const random = () => Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");
  return register(name, "student", `guest-${random()}@example.org`, random());
}

let refreshing = null;

// Call the API with this tab's access token. If it has expired, refresh it and try once more.
export async function call(method, path, body, headers = {}) {
  for (let fresh = false; ; fresh = true) {
    const token = account()?.access_token;
    try {
      return await send(method, path, body, { ...headers, Authorization: `Bearer ${token}` });
    } catch (error) {
      if (error.status !== 401 || fresh) throw error;
      // A refresh token works only once: calls that fail at the same time share one refresh.
      refreshing ??= send("POST", "v1/auth/refresh", { refresh_token: account()?.refresh_token ?? "" })
        .then(keep).finally(() => { refreshing = null; });
      await refreshing;
    }
  }
}

export async function command(ref, type, fields = {}) {
  return call("POST", `v1/sessions/${ref}/commands`, { type, ...fields }, { "Idempotency-Key": crypto.getRandomValues(new Uint32Array(3)).join("-") });
}

async function send(method, path, body, headers = {}) {
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: body === undefined ? headers : { ...headers, "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Refused(0, {});
  }
  const text = await response.text();
  let answer = {};
  try {
    answer = text ? JSON.parse(text) : {};
  } catch {
    // A proxy has sent a page instead of JSON: the status suffices.
  }
  if (!response.ok) throw new Refused(response.status, answer);
  return answer;
}
