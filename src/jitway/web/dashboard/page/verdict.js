// The one sentence on top: whether money flows. Rules in order, the first that fits is told.

import { ms, number, percent } from "./words.js";

export const SERVICES = { postgres: "PostgreSQL", redis: "Redis", message_queue: "RabbitMQ", mongodb: "MongoDB" };

const WITHOUT = {
  redis: "Without Redis cards are looked up in process and in PostgreSQL",
  message_queue: "Without RabbitMQ events wait in the outbox and none is lost",
  mongodb: "Without MongoDB the archive is filled later and nothing is lost",
};

export function judge({ services, minute }, { rate, p99, warningMs }) {
  const { approved, declined, no_decision: lost } = minute.decisions;
  const asked = approved + declined + lost;
  const flow = `${number(rate, rate >= 100 ? 0 : 1)} authorizations a second, ${percent(approved, approved + declined)} % approved, p99 ${ms(p99)}`;
  if (services.postgres?.status === "unhealthy") {
    return { state: "bad", title: "Money does not flow", why: `PostgreSQL is away, so nothing can be decided: ${services.postgres.reason ?? "no answer"}` };
  }
  if (asked && lost / asked >= 0.02) {
    const bad = lost / asked >= 0.5;
    return { state: bad ? "bad" : "warn", title: bad ? "Money hardly flows" : "Money flows, but not all of it", why: `${percent(lost, asked)} % of the last minute's requests got no decision in time. ${flow}.` };
  }
  const ill = Object.entries(services).filter(([, report]) => report.status === "unhealthy" || report.status === "degraded");
  if (ill.length) {
    const names = ill.map(([name]) => SERVICES[name] ?? name).join(" and ");
    const how = ill.every(([, report]) => report.status === "degraded") ? `${names} limps` : `without ${names}`;
    const why = ill.map(([name]) => WITHOUT[name]).filter(Boolean).join(". ");
    return { state: "warn", title: `${asked ? "Money flows" : "Ready"}, ${how}`, why: `${why ? `${why}. ` : ""}${asked ? `${flow}.` : "No authorization in the last minute."}` };
  }
  if (!asked) return { state: "idle", title: "Ready", why: "No authorization in the last minute. Everything that is needed is there." };
  if (p99 > warningMs) return { state: "warn", title: "Money flows, slowly", why: `More than one request in a hundred takes over ${number(warningMs)} ms. ${flow}.` };
  return { state: "good", title: "Money flows", why: `${flow}.` };
}
