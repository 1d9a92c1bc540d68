// What the page asks of its gateway, and how it hears from it.

let pageToken = "";
const listeners = {};

export class Problem extends Error {
  constructor(status, code, detail) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

export function on(name, listener) {
  (listeners[name] ??= []).push(listener);
}

function tell(name, data) {
  for (const listener of listeners[name] ?? []) listener(data);
}

export async function call(method, path, body) {
  const headers = {};
  if (method !== "GET") headers["X-Jitway-Page"] = pageToken;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(`/dashboard${path}`, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), credentials: "same-origin", cache: "no-store" });
  } catch {
    throw new Problem(0, "unreachable", "The gateway does not answer.");
  }
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  const after = response.headers.get("Retry-After");
  const detail = (answer.detail ?? response.statusText) + (response.status === 429 && after ? ` (${after} s)` : "");
  const problem = new Problem(response.status, answer.code ?? "", detail);
  if (response.status === 401 && path !== "/login" && path !== "/session") tell("ended");
  throw problem;
}

export async function session() {
  const who = await call("GET", "/session");
  pageToken = who.page_token;
  return who;
}

export async function logIn(secret) {
  const who = await call("POST", "/login", secret);
  pageToken = who.page_token;
  return who;
}

export async function logOut() {
  await call("POST", "/logout");
  pageToken = "";
}

// The stream: open while the page is seen, opened again when it breaks, more slowly each time.
const QUIET_MS = 6000;
let source = null;
let wanted = false;
let failures = 0;
let retry = 0;
let watchdog = 0;

export function follow() {
  wanted = true;
  open();
}

export function unfollow() {
  wanted = false;
  close();
}

function open() {
  if (!wanted || document.hidden || source) return;
  clearTimeout(retry);
  source = new EventSource("/dashboard/stream");
  heard();
  source.addEventListener("history", (event) => {
    failures = 0;
    heard();
    tell("history", JSON.parse(event.data));
  });
  source.addEventListener("figures", (event) => {
    heard();
    tell("figures", JSON.parse(event.data));
  });
  source.addEventListener("ended", () => {
    close();
    tell("ended");
  });
  source.addEventListener("error", broken);
}

function heard() {
  clearTimeout(watchdog);
  watchdog = setTimeout(broken, QUIET_MS);
}

function close() {
  clearTimeout(watchdog);
  clearTimeout(retry);
  source?.close();
  source = null;
}

async function broken() {
  close();
  if (!wanted || document.hidden) return;
  tell("lost");
  try {
    await session();
  } catch (problem) {
    if (problem.status === 401) {
      tell("ended");
      return;
    }
  }
  const wait = Math.min(8000, 500 * 2 ** failures) * (0.75 + Math.random() / 2);
  failures += 1;
  retry = setTimeout(open, wait);
}

document.addEventListener("visibilitychange", () => {
  if (!wanted) return;
  if (document.hidden) {
    close();
    tell("paused");
  } else {
    failures = 0;
    open();
  }
});
