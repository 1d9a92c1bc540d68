// The two dialogs: one shows, one asks for a reason before something is changed.

import { byId, say } from "./words.js";

const detail = byId("detail");
const ask = byId("ask");
let act = null;

for (const button of document.querySelectorAll("[data-close]")) button.addEventListener("click", () => button.closest("dialog").close());

export function showDetail(title, ...parts) {
  say(byId("detail-title"), title);
  byId("detail-body").replaceChildren(...parts);
  if (!detail.open) detail.showModal();
  detail.scrollTop = 0;
}

// `then` gets the reason; what it throws is told in the dialog, which stays.
export function askReason({ title, what, go, then }) {
  act = then;
  say(byId("ask-title"), title);
  say(byId("ask-what"), what);
  say(byId("ask-go"), go);
  say(byId("ask-error"), "");
  byId("ask-reason").value = "";
  ask.showModal();
  byId("ask-reason").focus();
}

byId("ask-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const reason = byId("ask-reason").value.trim();
  if (!reason || !act) return;
  byId("ask-go").disabled = true;
  try {
    await act(reason);
    ask.close();
  } catch (problem) {
    say(byId("ask-error"), problem.message);
  } finally {
    byId("ask-go").disabled = false;
  }
});

export function closeAll() {
  for (const dialog of [detail, ask]) if (dialog.open) dialog.close();
}
