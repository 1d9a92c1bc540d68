// Buried deliveries: what, why, and the two ways out.

import { askReason, showDetail } from "./dialogs.js";
import { call } from "./gateway.js";
import { byId, count, el, keyed, moment, say } from "./words.js";

let seen = null;

export async function loadDead() {
  try {
    const page = await call("GET", "/v1/dead-letters?limit=100");
    keyed(byId("dead").tBodies[0], page.data, (letter) => `${letter.queue} ${letter.id} ${letter.last_failed_at}`, row);
    say(byId("dead-note"), page.data.length ? `${count(page.data.length)}${page.next_cursor ? " and more" : ""}, the oldest first` : "None: every delivery was taken.");
  } catch (problem) {
    say(byId("dead-note"), problem.message);
  }
}

// The list is asked for only when the number changed: looking at it costs the broker something.
export function watchDead(queues) {
  if (!queues) return;
  const dead = queues.reduce((sum, queue) => sum + queue.dead, 0);
  if (dead !== seen) loadDead();
  seen = dead;
}

byId("dead-refresh").addEventListener("click", loadDead);

function row(letter) {
  return el("tr", {},
    el("td", {}, moment(letter.last_failed_at)), el("td", {}, letter.queue), el("td", {}, letter.type),
    el("td", { class: "cause" }, letter.cause), el("td", { class: "num" }, count(letter.attempts)),
    el("td", {}, el("div", { class: "acts" },
      el("button", { type: "button", onclick: () => look(letter), "aria-label": `Look at ${letter.type} ${letter.id}` }, "Look"),
      el("button", { type: "button", onclick: () => take("replay", letter), "aria-label": `Replay ${letter.type} ${letter.id}` }, "Replay"),
      el("button", { type: "button", class: "danger", onclick: () => take("discard", letter), "aria-label": `Discard ${letter.type} ${letter.id}` }, "Discard"))));
}

const path = (letter, act = "") => `/v1/dead-letters/${encodeURIComponent(letter.id)}${act}?queue=${encodeURIComponent(letter.queue)}`;

async function look(letter) {
  try {
    const whole = await call("GET", path(letter));
    showDetail(`${whole.type} in ${whole.queue}`,
      el("p", { class: "summary" }, whole.cause),
      el("section", {}, el("h3", {}, "Attempts"), el("ul", { class: "life" }, ...whole.history.map((one) => el("li", {}, `${one.attempt}. `, moment(one.at), ` ${one.cause}`)))),
      el("section", {}, el("h3", {}, "Message"), el("pre", { tabindex: "0" }, whole.message ? JSON.stringify(whole.message, null, 2) : whole.body ?? "")));
  } catch (problem) {
    say(byId("dead-note"), problem.message);
    loadDead();
  }
}

function take(act, letter) {
  const replaying = act === "replay";
  askReason({
    title: replaying ? "Replay this delivery?" : "Discard this delivery?",
    what: replaying ? `${letter.type} goes back into ${letter.queue} with all attempts granted again.` : `${letter.type} in ${letter.queue} is forgotten for good: its consumer never gets it.`,
    go: replaying ? "Replay" : "Discard",
    then: async (reason) => {
      await call("POST", path(letter, `/${act}`), { reason });
      await loadDead();
    },
  });
}
