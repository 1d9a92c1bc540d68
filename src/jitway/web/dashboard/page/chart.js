// Lines over the last minutes, as SVG. Colours come from the style sheet, values also stand in words.

import { el, number, say, svg } from "./words.js";

const MARGIN = { top: 8, right: 6, bottom: 20, left: 40 };
const LIMIT_TEXT = 46;
const SPAN_MAX_S = 300;
const SPAN_MIN_S = 60;

export class TimeChart {
  // series: {name, of(point), line, area?}; limits: {value, text}; scale: "linear" or "log".
  constructor(host, { title, unit, series, scale = "linear", limits = [], key }) {
    this.right = MARGIN.right + (limits.length ? LIMIT_TEXT : 0);
    Object.assign(this, { host, title, unit, series, scale, limits, points: [], hover: null });
    this.svg = svg("svg", { role: "img" });
    this.tip = el("div", { class: "tip", hidden: true, "aria-hidden": "true" });
    host.append(this.svg, this.tip);
    this.values = series.map((one) => {
      const value = el("b", {}, "–");
      key.append(el("li", {}, svg("svg", { viewBox: "0 0 22 8", "aria-hidden": "true" }, svg("line", { class: one.line, x1: 0, x2: 22, y1: 4, y2: 4 })), one.name, value));
      return value;
    });
    host.addEventListener("pointermove", (event) => this.point(event.clientX - host.getBoundingClientRect().left));
    host.addEventListener("pointerleave", () => this.point(null));
    new ResizeObserver(() => this.draw()).observe(host);
  }

  set(points) {
    this.points = points;
    this.draw();
    const last = points.at(-1);
    this.series.forEach((one, i) => say(this.values[i], last ? number(one.of(last)) : "–"));
  }

  range() {
    const seen = this.points.flatMap((point) => this.series.map((one) => one.of(point))).filter((value) => value > 0);
    if (this.scale === "log") {
      const low = Math.min(1, ...seen);
      return [Math.max(0.05, low * 0.8), Math.max(...this.limits.map((limit) => limit.value * 1.3), ...seen, 1) * 1.05];
    }
    return [0, Math.max(5, ...seen) * 1.1];
  }

  ticks([low, high]) {
    if (this.scale === "log") return [0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000].filter((tick) => tick >= low && tick <= high);
    const step = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000].find((one) => high / one <= 5) ?? 20000;
    return Array.from({ length: Math.floor(high / step) + 1 }, (_, i) => i * step);
  }

  draw() {
    const width = this.host.clientWidth, height = this.host.clientHeight;
    if (!width || !height) return;
    const range = this.range();
    const end = this.points.at(-1)?.at ?? Date.now();
    const seconds = Math.min(SPAN_MAX_S, Math.max(SPAN_MIN_S, (end - (this.points[0]?.at ?? end)) / 1000));
    const begin = end - seconds * 1000;
    const inner = { width: width - MARGIN.left - this.right, height: height - MARGIN.top - MARGIN.bottom };
    const x = (at) => MARGIN.left + (inner.width * (at - begin)) / (end - begin);
    const place = this.scale === "log" ? (value) => Math.log(value / range[0]) / Math.log(range[1] / range[0]) : (value) => value / range[1];
    const y = (value) => MARGIN.top + inner.height * (1 - Math.min(1, Math.max(0, place(Math.max(value, this.scale === "log" ? range[0] : 0)))));
    Object.assign(this, { x, begin, end });
    const parts = [];
    for (const tick of this.ticks(range)) {
      parts.push(svg("line", { class: "gridline", x1: MARGIN.left, x2: width - this.right, y1: y(tick), y2: y(tick) }));
      parts.push(svg("text", { x: MARGIN.left - 6, y: y(tick) + 4, "text-anchor": "end" }, number(tick)));
    }
    const step = seconds > 150 ? 60 : 15;
    for (let ago = 0; ago <= seconds; ago += step) {
      const text = ago ? `−${step === 60 ? `${ago / 60} min` : `${ago} s`}` : "now";
      parts.push(svg("text", { x: x(end - ago * 1000), y: height - 4, "text-anchor": ago ? "middle" : "end" }, text));
    }
    for (const limit of this.limits) {
      parts.push(svg("line", { class: "limit", x1: MARGIN.left, x2: width - this.right, y1: y(limit.value), y2: y(limit.value) }));
      parts.push(svg("text", { class: "limit-text", x: width - this.right + 4, y: y(limit.value) + 4 }, limit.text));
    }
    const shown = this.points.filter((point) => point.at >= begin);
    for (const one of this.series) {
      const [line, area] = path(shown, one.of, x, y, MARGIN.top + inner.height);
      if (one.area) parts.push(svg("path", { class: "area", d: area }));
      parts.push(svg("path", { class: `line ${one.line}`, d: line }));
    }
    this.cursor = svg("line", { class: "cursor", y1: MARGIN.top, y2: MARGIN.top + inner.height, visibility: "hidden" });
    this.svg.replaceChildren(...parts, this.cursor);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.setAttribute("aria-label", this.inWords());
    if (this.hover !== null) this.point(this.hover);
  }

  inWords() {
    const last = this.points.at(-1);
    if (!last) return `${this.title}: nothing yet`;
    return `${this.title}, last minutes. Now: ${this.series.map((one) => `${one.name} ${number(one.of(last))} ${this.unit}`).join(", ")}.`;
  }

  point(position) {
    this.hover = position;
    const at = position === null ? null : this.begin + ((position - MARGIN.left) / (this.host.clientWidth - MARGIN.left - this.right)) * (this.end - this.begin);
    const near = at === null ? null : this.points.reduce((best, point) => (best && Math.abs(best.at - at) < Math.abs(point.at - at) ? best : point), null);
    const visible = near !== null && Math.abs(near.at - at) < 5000;
    this.tip.hidden = !visible;
    this.cursor?.setAttribute("visibility", visible ? "visible" : "hidden");
    if (!visible) return;
    const x = this.x(near.at);
    this.cursor.setAttribute("x1", x);
    this.cursor.setAttribute("x2", x);
    say(this.tip, `${new Date(near.at).toLocaleTimeString("en-GB")}  ${this.series.map((one) => `${one.name} ${number(one.of(near))}`).join("  ")} ${this.unit}`);
    // By script, which the policy permits, unlike an attribute.
    this.tip.style.left = `${Math.min(x + 8, this.host.clientWidth - this.tip.offsetWidth)}px`;
  }
}

function path(points, of, x, y, floor) {
  let line = "", area = "", open = false, lastX = 0;
  for (const point of points) {
    const value = of(point);
    if (value === null || value === undefined) {
      if (open) area += `L${lastX} ${floor}Z`;
      open = false;
      continue;
    }
    const at = x(point.at).toFixed(1), level = y(value).toFixed(1);
    line += `${open ? "L" : "M"}${at} ${level}`;
    area += open ? `L${at} ${level}` : `M${at} ${floor}L${at} ${level}`;
    open = true;
    lastX = at;
  }
  if (open) area += `L${lastX} ${floor}Z`;
  return [line, area];
}
