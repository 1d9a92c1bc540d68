// The page from login to logout.

import { loadDead, watchDead } from "./dead_letters.js";
import { refresh, showLive, showReasons, startLive } from "./decisions.js";
import { closeAll, showDetail } from "./dialogs.js";
import { showFigures, showHistory, showVerdict, slowDetail } from "./figures.js";
import { follow, logIn, logOut, on, session, unfollow } from "./gateway.js";
import { byId, ms, say, short } from "./words.js";

const POLL_MS = 3000;
let polling = 0;

function connection(state, text) {
  byId("connection").dataset.state = state;
  say(byId("connection"), text);
}

function enter(who) {
  byId("login").hidden = true;
  byId("page").hidden = false;
  byId("who").hidden = false;
  say(byId("who-key"), short(who.key));
  byId("who-key").title = `${who.key}: ${who.scopes.join(", ")}`;
  showReasons(who.reasons);
  startLive();
  const isOperator = who.program === null;
  for (const id of ["whole", "alerts-panel", "foot"]) byId(id).hidden = !isOperator;
  loadDead();
  if (isOperator) {
    connection("waiting", "Connecting");
    follow();
    return;
  }
  showVerdict({ state: "idle", title: "One program", why: "This key sees the decisions and dead letters of its program. Figures of the whole gateway need a key of the operator." });
  connection("live", `Live, program ${short(who.program)}`);
  polling = setInterval(refresh, POLL_MS);
}

function leave(why) {
  unfollow();
  clearInterval(polling);
  closeAll();
  byId("page").hidden = true;
  byId("who").hidden = true;
  byId("login").hidden = false;
  document.title = "jitway";
  connection("out", "Logged out");
  say(byId("login-why"), why);
  byId("login-key").focus();
}

on("history", showHistory);
on("figures", (figures) => {
  connection("live", `Live, ${new Date().toLocaleTimeString("en-GB")}`);
  showFigures(figures);
  showLive(figures.decisions);
  watchDead(figures.queues);
});
on("lost", () => {
  connection("lost", "No news from the gateway; asking again");
  showVerdict({ state: "unknown", title: "No news from the gateway", why: "The page asks again by itself. What is shown below is as old as the clock above says." });
});
on("paused", () => connection("waiting", "Paused while hidden"));
on("ended", () => leave("Your session has ended. Log in again with an API key."));
document.addEventListener("slow", (event) => showDetail(`A request of ${ms(event.detail.total_ms)}`, ...slowDetail(event.detail)));

byId("logout").addEventListener("click", async () => {
  try {
    await logOut();
    leave("You are logged out. Log in again with an API key.");
  } catch (problem) {
    connection("lost", problem.message);
  }
});

byId("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const field = byId("login-key");
  say(byId("login-error"), "");
  try {
    const who = await logIn({ key: field.value.trim() });
    field.value = "";
    enter(who);
  } catch (problem) {
    say(byId("login-error"), problem.message);
    field.select();
  }
});

async function begin() {
  const link = new URLSearchParams(location.hash.slice(1)).get("login");
  // The secret leaves the address, and with it the browser's history.
  if (link !== null) history.replaceState(null, "", location.pathname);
  try {
    enter(link === null ? await session() : await logIn({ link }));
  } catch (problem) {
    if (link !== null) {
      try {
        enter(await session());
        return;
      } catch { /* nobody is logged in: the link's own failure is told */ }
    }
    leave("With an API key. It is sent once, and not kept by this browser.");
    if (link !== null || problem.status !== 401) say(byId("login-error"), problem.message);
  }
}

begin();
