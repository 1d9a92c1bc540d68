// Elements, numbers and instants in words. Nothing here knows what it is used for.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

// Only what changed is written: whoever selects or hears the text is not disturbed.
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function number(value, digits = null) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const places = digits ?? (Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2);
  return value.toLocaleString("en-US", { minimumFractionDigits: digits === null ? 0 : places, maximumFractionDigits: places });
}

export const count = (value) => (value === null || value === undefined ? "–" : value.toLocaleString("en-US"));

export const ms = (value) => (value === null || value === undefined ? "–" : `${number(value, value >= 100 ? 0 : value >= 10 ? 1 : 2)} ms`);

export const percent = (part, whole, digits = 1) => (whole ? number((100 * part) / whole, digits) : "–");

export function money(minor, currency) {
  if (minor === null || minor === undefined) return "–";
  let digits = 2;
  try {
    digits = new Intl.NumberFormat("en-US", { style: "currency", currency }).resolvedOptions().maximumFractionDigits;
  } catch { /* a currency the browser does not know is shown with two digits */ }
  return `${(minor / 10 ** digits).toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits })} ${currency}`;
}

export function clock(instant) {
  const date = new Date(instant);
  return Number.isNaN(date.getTime()) ? "–" : date.toLocaleTimeString("en-GB");
}

export function moment(instant) {
  const date = new Date(instant);
  if (Number.isNaN(date.getTime())) return el("span", {}, "–");
  const today = date.toDateString() === new Date().toDateString();
  const text = today ? clock(instant) : `${date.toLocaleDateString("en-GB", { day: "2-digit", month: "short" })} ${clock(instant)}`;
  return el("time", { datetime: date.toISOString(), title: date.toISOString() }, text);
}

export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 90) return `${number(seconds, seconds < 10 ? 1 : 0)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} days`;
}

export const short = (id) => (id ? `${id.slice(0, 4)}…${id.slice(-6)}` : "–");

export const plain = (code) => (code ?? "").replaceAll("_", " ");

// Rows by key: kept while their key is there, so focus and selection survive an update.
export function keyed(parent, items, keyOf, make, update) {
  const known = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  let before = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let node = known.get(key);
    if (node) known.delete(key);
    else {
      node = make(item);
      node.dataset.key = key;
    }
    update?.(node, item);
    if (node === before) before = before.nextElementSibling;
    else parent.insertBefore(node, before);
  }
  for (const gone of known.values()) gone.remove();
}

// A bar from 0 to 1 without a style attribute, which the page's own policy forbids.
export function gauge(share, className = "bar-fill") {
  return svg("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "track", width: 100, height: 10 }),
    svg("rect", { class: className, width: 100 * Math.min(1, Math.max(0, share || 0)), height: 10 }));
}

export function meters(parent, items) {
  keyed(parent, items, (item) => item.label,
    (item) => el("div", { class: "meter" }, el("span", {}, item.label), el("b"), gauge(0)),
    (node, item) => {
      say(node.children[1], item.value);
      node.title = item.title ?? "";
      node.querySelector("svg").toggleAttribute("hidden", item.share === null);
      node.querySelector(".bar-fill").setAttribute("width", 100 * Math.min(1, Math.max(0, item.share ?? 0)));
    });
}
