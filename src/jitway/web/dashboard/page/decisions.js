// Recent decisions, their search, and for each one why, and what became of its money.

import { askReason, showDetail } from "./dialogs.js";
import { call } from "./gateway.js";
import { byId, count, el, keyed, moment, money, plain, say, short } from "./words.js";

const LIVE_MAX = 25;
// More than so many at once are not pointed at: the eye could not follow.
const NEW_MAX = 5;
const REFRESH_MS = 2000;
const search = byId("search");
let live = true;
let shown = [];
let older = null;
let busy = false;
let refreshed = 0;

export function showReasons(reasons) {
  const select = search.elements.reason;
  if (select.options.length > 1) return;
  for (const reason of reasons) select.append(el("option", { value: reason }, plain(reason)));
}

// Of all decisions the stream brings the latest; of some kind they are asked for now and then.
export function showLive(decisions) {
  if (!live || !decisions) return;
  if (search.elements.decision.value) refresh();
  else showLatest(decisions);
}

export async function refresh() {
  if (!live || busy || document.hidden || Date.now() - refreshed < REFRESH_MS) return;
  busy = true;
  const decision = search.elements.decision.value;
  try {
    const page = await call("GET", `/v1/authorizations?limit=${LIVE_MAX}${decision && `&decision=${decision}`}`);
    if (live && decision === search.elements.decision.value) showLatest(page.data);
  } catch (problem) {
    note(problem.message);
  } finally {
    busy = false;
    refreshed = Date.now();
  }
}

function showLatest(decisions) {
  const known = new Set(shown.map((one) => one.id));
  const fresh = decisions.filter((one) => !known.has(one.id)).length;
  show(decisions.slice(0, LIVE_MAX), null, known.size && fresh <= NEW_MAX ? known : null);
  note(decisions.length ? "" : "Nothing was decided yet.");
}

const note = (text) => say(byId("decisions-note"), text);

function show(decisions, next, known = null) {
  shown = decisions;
  keyed(byId("decisions").tBodies[0], decisions, (one) => one.id, (one) => row(one, known && !known.has(one.id)), (node, one) => say(node.children[4], plain(one.status)));
  older = next;
  byId("more").hidden = !next;
}

function row(one, isNew) {
  const decision = one.reason === "abandoned" ? "abandoned" : one.decision;
  return el("tr", { class: isNew ? "new" : null },
    el("td", {}, moment(one.decided_at)), el("td", {}, el("span", { class: decision }, decision)),
    el("td", { class: "num" }, money(one.amount, one.currency)), el("td", {}, one.reason ? plain(one.reason) : "–"), el("td"),
    el("td", { class: "mono", title: one.card }, short(one.card)),
    el("td", {}, el("button", { type: "button", onclick: () => explain(one.id), "aria-label": `Why was ${money(one.amount, one.currency)} ${one.decision}?` }, "Why")));
}

function setLive(on) {
  live = on;
  byId("search-live").setAttribute("aria-pressed", String(on));
  if (!on) return;
  search.elements.text.value = search.elements.reason.value = "";
  note("");
  shown = [];
  refreshed = 0;
  refresh();
}

export const startLive = () => setLive(true);
byId("search-live").addEventListener("click", () => setLive(true));
search.addEventListener("submit", (event) => {
  event.preventDefault();
  find();
});
search.elements.reason.addEventListener("change", () => find());
search.elements.decision.addEventListener("change", () => (live ? setLive(true) : find()));

async function find() {
  setLive(false);
  const text = search.elements.text.value.trim();
  if (text.startsWith("aut_")) {
    await explain(text);
    return;
  }
  await load(address(text), []);
}

function address(text) {
  const asked = new URLSearchParams();
  for (const name of ["decision", "reason"]) if (search.elements[name].value) asked.set(name, search.elements[name].value);
  const kind = { crd_: "card", acc_: "account", chd_: "cardholder" }[text.slice(0, 4)];
  if (text) asked.set(kind ?? "merchant", text);
  // Only the archive knows decisions by merchant and cardholder; it follows within moments.
  const place = asked.has("merchant") || asked.has("cardholder") ? "/v1/archive/authorizations" : "/v1/authorizations";
  asked.set("limit", "50");
  return `${place}?${asked}`;
}

async function load(path, before) {
  note("Searching");
  try {
    const page = await call("GET", path);
    const found = before.concat(page.data);
    show(found, page.next_cursor && { path, cursor: page.next_cursor });
    note(`${count(found.length)}${page.next_cursor ? " and more" : ""} found${path.includes("/archive/") ? " in the archive" : ""}`);
  } catch (problem) {
    note(problem.message);
  }
}

byId("more").addEventListener("click", () => {
  if (!older) return;
  const [place, query] = older.path.split("?");
  const asked = new URLSearchParams(query);
  asked.set("cursor", older.cursor);
  load(`${place}?${asked}`, shown);
});

export async function explain(id) {
  try {
    const why = await call("GET", `/v1/authorizations/${encodeURIComponent(id)}`);
    let card = null;
    try {
      if (why.card) card = await call("GET", `/v1/cards/${encodeURIComponent(why.card)}`);
    } catch { /* a card that is not ours, or not there, has nothing to freeze */ }
    showDetail(`Why was ${money(why.amount, why.currency)} ${why.decision}?`, ...told(why, card));
  } catch (problem) {
    note(problem.message);
  }
}

function told(why, card) {
  const pair = (name, ...value) => [el("dt", {}, name), el("dd", {}, ...value)];
  return [
    el("p", { class: "summary" }, why.summary),
    el("section", {}, el("h3", {}, "Rules, in order"), el("ol", { class: "rules" }, ...why.explanation.map((rule) =>
      el("li", { "data-outcome": rule.outcome }, el("span", { class: "outcome" }, rule.outcome), el("span", {}, plain(rule.rule)), el("span", {}, rule.text))))),
    el("section", {}, el("h3", {}, "What became of the money"), life(why)),
    el("section", {}, el("h3", {}, "Facts"), el("dl", { class: "pairs" },
      ...pair("Authorization", el("span", { class: "mono" }, why.id)), ...pair("Decided", moment(why.decided_at)), ...pair("Status", plain(why.status)),
      ...pair("Account", el("span", { class: "mono" }, why.account ?? "the card was not known"), why.account_version ? `, version ${why.account_version}` : ""),
      ...(why.balance ? pair("Available", `${money(why.balance.before, why.currency)} before, ${money(why.balance.after, why.currency)} after`) : []),
      ...pair("Card", el("span", { class: "mono" }, why.card ?? "–"), card ? `, ${card.status}` : ""))),
    card ? freezing(card, why.id) : null,
  ].filter(Boolean);
}

function life(why) {
  if (why.decision === "declined" && !why.transfers.length) return el("p", { class: "hint" }, "Nothing was reserved, so nothing moved.");
  const steps = [el("li", {}, moment(why.decided_at), ` approved: ${money(why.approved_amount ?? why.amount, why.currency)} held`)];
  for (const transfer of why.transfers) steps.push(el("li", {}, moment(transfer.created_at), ` ${plain(transfer.kind)}: ${money(transfer.amount, transfer.currency)} `, el("span", { class: "hint" }, `account version ${transfer.account_version}`)));
  if (why.remaining) steps.push(el("li", {}, `now ${money(why.remaining, why.currency)} held, until `, moment(why.expires_at)));
  return el("ul", { class: "life" }, ...steps);
}

function freezing(card, id) {
  const verb = { active: "freeze", frozen: "unfreeze" }[card.status];
  if (!verb) return null;
  return el("div", { class: "acts" }, el("button", { type: "button", class: verb === "freeze" ? "danger" : null, onclick: () => askReason({
    title: verb === "freeze" ? "Freeze this card?" : "Unfreeze this card?",
    what: verb === "freeze" ? "From the moment this is answered nothing more is approved on it." : "Authorizations may be approved on it again.",
    go: verb === "freeze" ? "Freeze" : "Unfreeze",
    then: async (reason) => {
      await call("POST", `/v1/cards/${encodeURIComponent(card.id)}/${verb}`, { reason });
      await explain(id);
    },
  }) }, verb === "freeze" ? "Freeze the card" : "Unfreeze the card"));
}
