// The figures of the whole gateway: key numbers, charts, stages, stores, alerts.

import { TimeChart } from "./chart.js";
import { byId, clock, count, el, gauge, keyed, meters, moment, ms, number, percent, plain, say, span, svg } from "./words.js";
import { judge, SERVICES } from "./verdict.js";

const POINTS_MAX = 600;
const HOLD_AGES = { hour: "under 1 hour", day: "under 1 day", three_days: "1 to 3 days", week: "3 to 7 days", older: "over 7 days" };
const DISABLED = { postgres: "", redis: "off: cached in process", message_queue: "off: PostgreSQL delivers", mongodb: "off: PostgreSQL archives" };

let points = [];
let told = null;
let charts = null;

const asPoint = ([at, approved, declined, other, p50, p95, p99]) => ({ at, approved, declined, other, p50, p95, p99 });

export function showHistory(history) {
  told = history;
  points = history.points.map(asPoint);
  charts ??= {
    rate: new TimeChart(byId("rate-chart"), {
      title: "Authorizations per second", unit: "per second", key: byId("rate-key"),
      series: [
        { name: "approved", of: (point) => point.approved, line: "one", area: true },
        { name: "declined", of: (point) => point.declined, line: "two-line" },
        { name: "other", of: (point) => point.other, line: "three" },
      ],
    }),
    latency: new TimeChart(byId("latency-chart"), {
      title: "Latency", unit: "ms", scale: "log", key: byId("latency-key"),
      limits: [{ value: history.warning_ms, text: "warning" }, { value: history.critical_ms, text: "critical" }],
      series: [
        { name: "p50", of: (point) => point.p50, line: "two-line" },
        { name: "p95", of: (point) => point.p95, line: "three" },
        { name: "p99", of: (point) => point.p99, line: "one" },
      ],
    }),
  };
  drawCharts();
}

function drawCharts() {
  charts.rate.set(points);
  charts.latency.set(points);
}

export function showFigures(figures) {
  if (figures.point && figures.point[0] !== points.at(-1)?.at) points.push(asPoint(figures.point));
  if (points.length > POINTS_MAX) points = points.slice(-POINTS_MAX);
  drawCharts();
  const recent = points.slice(-5);
  const rate = recent.reduce((sum, point) => sum + point.approved + point.declined + point.other, 0) / (recent.length || 1);
  const [total, ...stages] = figures.stages;
  const p99 = total.p99;
  showNumbers(figures, rate, p99);
  showVerdict(judge(figures, { rate, p99, warningMs: told.warning_ms }));
  showServices(figures.services);
  showStages(stages);
  showSlowest(figures.slowest);
  showCache(figures.minute.lookups);
  showLedger(figures);
  showQueues(figures.queues);
  showHolds(figures.holds);
  showAlerts(figures);
  say(byId("foot"), footText(figures));
}

function footText({ workers }) {
  const whose = workers > 1 ? `${workers} workers together` : "one process";
  return `jitway ${told.version}, ${whose}, up since ${new Date(told.started_at).toLocaleString("en-GB")}. Figures come once a second; this page pauses while it is hidden.`;
}

function showNumbers({ minute, outbox, queues }, rate, p99) {
  const decided = minute.decisions.approved + minute.decisions.declined;
  say(byId("n-rate"), number(rate, rate >= 100 ? 0 : 1));
  say(byId("n-rate-more"), `${count(decided)} decided in the last minute`);
  say(byId("n-approval"), percent(minute.decisions.approved, decided));
  const top = Object.entries(minute.reasons).filter(([reason]) => reason).sort((a, b) => b[1] - a[1])[0];
  say(byId("n-approval-more"), top ? `most declined: ${plain(top[0])}` : decided ? "nothing was declined" : "of the last minute");
  say(byId("n-p99"), number(p99));
  say(byId("n-p99-more"), `of the last minute; warning at ${number(told.warning_ms)}`);
  say(byId("n-outbox"), outbox ? count(outbox.depth) : "–");
  say(byId("n-outbox-more"), !outbox ? "not known now" : outbox.depth ? `the oldest for ${span(outbox.lag_s)}` : "all are published");
  const dead = queues && queues.reduce((sum, queue) => sum + queue.dead, 0);
  say(byId("n-dead"), count(dead));
  say(byId("n-dead-more"), dead === null ? "not known now" : dead ? "replay or discard them below" : "none");
}

export function showVerdict({ state, title, why }) {
  byId("verdict").dataset.state = state;
  say(byId("verdict-title"), title);
  say(byId("verdict-why"), why);
  document.title = `${{ good: "✓", warn: "!", bad: "✕" }[state] ?? "–"} ${title} – jitway`;
}

function showServices(services) {
  keyed(byId("services"), Object.entries(services), ([name]) => name,
    ([name]) => el("li", {}, el("i", { class: "mark", "aria-hidden": "true" }), el("b", {}, SERVICES[name] ?? name), el("span")),
    (node, [name, report]) => {
      node.dataset.state = node.firstChild.dataset.state = report.status;
      const more = report.status === "disabled" ? DISABLED[name] ?? "off"
        : report.status === "healthy" ? `healthy, ${ms(report.latency_ms)}` : `${report.status}: ${report.reason ?? "no answer"}`;
      say(node.lastChild, more);
    });
}

function showStages(stages) {
  const total = stages.reduce((sum, stage) => sum + (stage.average ?? 0), 0);
  let begun = 0;
  const rows = stages.map((stage) => {
    const row = { ...stage, from: total ? begun / total : 0, share: total ? (stage.average ?? 0) / total : 0 };
    begun += stage.average ?? 0;
    return row;
  });
  say(byId("stages-note"), total ? `last minute: ${ms(total)} together` : "nothing in the last minute");
  keyed(byId("stages").tBodies[0], rows, (row) => row.name,
    (row) => el("tr", {}, el("th", { scope: "row" }, plain(row.name)), el("td", {}, gauge(0)), el("td", { class: "num" }), el("td", { class: "num" }), el("td", { class: "num" }, number(row.budget))),
    (node, row) => {
      const bar = node.querySelector("svg").lastChild;
      bar.setAttribute("x", 100 * row.from);
      bar.setAttribute("width", Math.max(row.share ? 0.6 : 0, 100 * row.share));
      const isOver = row.p99 !== null && row.p99 > row.budget;
      say(node.children[2], number(row.average));
      say(node.children[3], number(row.p99));
      node.children[3].classList.toggle("over", isOver);
      node.children[3].title = isOver ? "over its budget" : "";
    });
}

function showSlowest(slowest) {
  const longest = slowest[0]?.total_ms ?? 1;
  const keyOf = (slow) => `${slow.request_id} ${slow.finished_at}`;
  keyed(byId("slowest"), slowest.length ? slowest : [null], (slow) => (slow ? keyOf(slow) : "none"),
    (slow) => (slow ? slowRow(slow) : el("p", { class: "hint" }, "No request yet.")),
    (node, slow) => {
      if (!slow) return;
      let x = 0;
      for (const bar of node.querySelectorAll("rect")) {
        const width = (100 * Number(bar.dataset.ms)) / longest;
        bar.setAttribute("x", x);
        bar.setAttribute("width", width);
        x += width;
      }
    });
}

function slowRow(slow) {
  const stages = Object.entries(slow.stages_ms);
  const bars = stages.map(([name, span]) => svg("rect", { class: name === slow.guilty ? "guilty" : "wait", height: 14, "data-ms": span }, svg("title", {}, `${plain(name)} ${ms(span)}`)));
  return el("button", { type: "button", class: "slow", onclick: () => document.dispatchEvent(new CustomEvent("slow", { detail: slow })), "aria-label": `${ms(slow.total_ms)}, ${slow.decision}, most of it ${plain(slow.guilty)}: show all stages` },
    el("b", {}, ms(slow.total_ms)),
    svg("svg", { viewBox: "0 0 100 14", preserveAspectRatio: "none", "aria-hidden": "true" }, ...bars),
    el("small", {}, `${plain(slow.guilty)}, ${clock(slow.finished_at)}`));
}

export function slowDetail(slow) {
  const longest = Math.max(...Object.values(slow.stages_ms), 0.001);
  const rows = Object.entries(slow.stages_ms).map(([name, span]) => el("tr", {}, el("th", { scope: "row" }, plain(name) + (name === slow.guilty ? " (guilty)" : "")), el("td", { class: "wide" }, gauge(span / longest, name === slow.guilty ? "guilty" : "wait")), el("td", { class: "num" }, ms(span))));
  return [
    el("p", { class: "summary" }, `${ms(slow.total_ms)} until it was ${plain(slow.decision)}${slow.reason ? ` (${plain(slow.reason)})` : ""}. ${plain(slow.guilty)} was ${slow.over_budget_ms ? `${ms(slow.over_budget_ms)} over its budget` : "nearest to its budget"}.`),
    el("table", { class: "rows" }, el("tbody", {}, ...rows)),
    el("dl", { class: "pairs" }, el("dt", {}, "Request"), el("dd", { class: "mono" }, slow.request_id), el("dt", {}, "Finished"), el("dd", {}, moment(slow.finished_at)),
      el("dt", {}, "Event loop was late by"), el("dd", {}, ms(slow.loop_lag_ms)), el("dt", {}, "Garbage collection took"), el("dd", {}, ms(slow.gc_pause_ms))),
  ];
}

function showCache(lookups) {
  const items = lookups.map((one) => {
    const [hits, all] = one.hits + one.misses ? [one.hits, one.hits + one.misses] : [one.hits_ever, one.hits_ever + one.misses_ever];
    return { label: `${one.level.toUpperCase()} ${plain(one.kind)}`, value: `${percent(hits, all)} %`, share: all ? hits / all : 0, title: `${count(one.hits_ever)} hits and ${count(one.misses_ever)} misses since the start` };
  });
  meters(byId("cache"), items.length ? items : [{ label: "no lookup yet", value: "–", share: null }]);
}

function showLedger({ pool, pool_max, batch, outbox }) {
  const facts = [
    ["Pool in use", pool ? `${pool.in_use} of ${pool_max}` : "–"],
    ["Pool idle", pool ? count(pool.idle_connections) : "–"],
    ["Wait for the pool", pool ? count(pool.waiting_requests) : "–"],
    ["Other connections", pool ? count(pool.dedicated_connections) : "–"],
    ["Slow statements", pool ? count(pool.slow_queries) : "–"],
    ["Batch size", `${number(batch.average)} of ${batch.max}`],
    ["Wait for a batch", count(batch.waiting)],
    ["Outbox lag", outbox ? span(outbox.lag_s) : "–"],
  ];
  const list = byId("ledger");
  if (!list.children.length) for (const [name] of facts) list.append(el("dt", {}, name), el("dd"));
  facts.forEach(([, value], i) => say(list.children[2 * i + 1], value));
}

function showQueues(queues) {
  const items = queues?.map((queue) => ({
    label: queue.queue,
    value: `${count(queue.depth)} wait, ${count(queue.dead)} dead`,
    share: queue.depth / 1000,
    title: queue.consumers === undefined ? "delivered by PostgreSQL; full at 1,000" : `${queue.consumers} consumers; full at 1,000`,
  }));
  meters(byId("queues"), items ?? [{ label: "not known now", value: "–", share: null }]);
}

function showHolds(holds) {
  const items = holds && Object.entries(HOLD_AGES).map(([name, label]) => ({ label, value: count(holds[name]), share: holds.counted ? holds[name] / holds.counted : 0 }));
  if (holds && !holds.is_all) items.push({ label: `only the oldest ${count(holds.counted - 1)} are counted`, value: "", share: null });
  meters(byId("holds"), items ?? [{ label: "not known yet", value: "–", share: null }]);
}

function showAlerts({ alerts, told }) {
  say(byId("alerts-note"), alerts.length ? `${alerts.length} on now` : "nothing is on");
  const words = (one) => (one.severity === "cleared" ? `Over. ${one.detail}` : `${SERVICES[one.subject] ?? plain(one.subject)}: ${one.detail || plain(one.alert)}`);
  keyed(byId("alerts"), told.length ? told : [null], (one) => one?.id ?? "none",
    (one) => (one ? el("li", {}, el("i", { class: "mark", "data-state": one.severity, title: one.severity }), el("span", {}, el("span", { class: "visually-hidden" }, `${one.severity}: `), words(one)), moment(one.raised_at)) : el("li", {}, el("i"), el("span", { class: "hint" }, "Nothing since this gateway started."))));
}
