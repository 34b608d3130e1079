// What is wrong, in words: the first thing that is read by who has been woken. Pure: from what the server says of
// itself to troubles, worst first, each with the places where it is looked at and put right.

import { count, duration, plural, rate, sentence } from "./format.js";

const MAX_WHY = 160; // characters of what a backend said, in a line; the whole of it stands with its workload
const HELD = " held, since its messages fail all alike: "; // server/scheduling/breakers.py says it so
const WORST_FIRST = ["bad", "warn", "unknown", "ok"];
const BOXES = {
  clients: "Clients",
  front: "The front",
  queue: "The queue",
  processor: "The processor",
  table: "The table",
  dead: "Dead letters",
};

/** Troubles, worst first; where there are none, one line says so. Each has a `colour`, a `text`, `links` ({text, href,
 *  and the `path` of what is further down on the same view) and a `key`, which is the same while the trouble is. */
export function headline(live, link) {
  const found = [...server(live), ...workloads(live, link), ...boxes(live, link), ...alarms(live)];
  if (!found.length) found.push(allIsWell(live));
  return found.sort((a, b) => WORST_FIRST.indexOf(a.colour) - WORST_FIRST.indexOf(b.colour));
}

function server({ status, detail, overview, engine, workloads }) {
  if (status === "not running") {
    const unfinished = overview.queued + overview.in_flight + overview.delayed;
    const wait = unfinished
      ? `${plural(unfinished, "message")} ${unfinished === 1 ? "waits" : "wait"} on the disk, safe.`
      : "Nothing waits.";
    return [trouble("not running", "bad", `The server does not run. ${wait} Start it with decoupled serve.`)];
  }
  if (status === "unavailable") {
    return [trouble("unavailable", "bad", `Nothing is accepted${because(detail)}. What was accepted is safe.`)];
  }
  const more = withoutHeld(detail ?? "", workloads);
  if (status === "degraded" && more && engine === "sqlite") {
    // of a stack, what alarms say is told below
    return [trouble("degraded", "warn", `${sentence(clipped(more))}. Requests are still accepted.`)];
  }
  return [];
}

/** What is held is told by its workload: those parts are taken out of what the server says. The errors that they end
 *  with may have all in them that parts are told apart by. */
function withoutHeld(detail, workloads) {
  const whys = workloads.flatMap(({ why, groups = [] }) => [why, ...groups.map((group) => group.why)]).filter(Boolean);
  for (const why of whys.sort((a, b) => b.length - a.length)) detail = detail.replaceAll(`${HELD}${why}`, HELD);
  return detail.split("; ").filter((part) => part && !part.includes(HELD)).join("; ");
}

function workloads({ workloads }, link) {
  return workloads.flatMap((workload) => {
    const links = [
      { text: "Why", path: ["workload", workload.name], href: link("overview", ["workload", workload.name]) },
      { text: "What waits", href: link("messages", [], { workload: workload.name, status: "queued" }) },
    ];
    const { since_s: since = 0, unfinished = 0 } = workload;
    const waiting = `for ${duration(since)}; ${count(unfinished)} queued; nothing is lost.`;
    if (workload.state === "open") {
      return [
        trouble(
          `open ${workload.name}`,
          "bad",
          `${sentence(workload.name)} wait${because(workload.why)}, ${waiting}`,
          links,
        ),
      ];
    }
    if (workload.state === "held") {
      const alike = `${sentence(workload.name)} are held, since all fail alike${because(workload.why)}, ${waiting}`;
      return [trouble(`held ${workload.name}`, "bad", alike, links)];
    }
    return workload.sick_groups ? [sickGroups(workload, links)] : [];
  });
}

function sickGroups({ name, sick_groups: sick, groups = [] }, links) {
  const [first] = groups;
  const which = first ? `: ${clipped(first.group, 60)}${because(first.why)}` : "";
  const more = sick > 1 && first ? ` and ${plural(sick - 1, "more group")}` : "";
  return trouble(`groups ${name}`, "warn", `Some of ${name} wait${which}${more}. The others go on.`, links);
}

/** What a box has to say that no workload has said already. */
function boxes({ boxes, status, workloads, overview }, link) {
  if (status === "not running" || status === "unavailable") return [];
  const stopped = workloads.some(({ state }) => state !== "closed");
  const told = {
    processor: stopped || overview.alarms?.length || workloads.some(({ sick_groups: sick }) => sick),
    table: stopped,
    queue: stopped, // old messages are no news where nothing is processed
  };
  return Object.entries(boxes).flatMap(([name, { colour, why }]) => {
    if ((colour !== "bad" && colour !== "warn") || told[name]) return [];
    const links = {
      dead: [{ text: "Look at them", href: link("dead") }],
      queue: [{ text: "What waits", href: link("messages", [], { status: "queued" }) }],
    };
    return [trouble(`box ${name}`, colour, `${BOXES[name] ?? name}: ${clipped(why || "not well")}.`, links[name])];
  });
}

function alarms({ overview }) {
  return (overview.alarms ?? []).map((alarm) =>
    trouble(`alarm ${alarm}`, "warn", `An alarm sounds: ${clipped(alarm)}.`),
  );
}

function allIsWell({ overview, status, boxes }) {
  const known = status === "ok" || Object.values(boxes).some(({ colour }) => colour === "ok");
  if (!known) return trouble("unknown", "unknown", "How it is doing is not known.");
  const unfinished = overview.queued + overview.in_flight + overview.delayed;
  const oldest = overview.oldest_age_s == null ? "" : `, the oldest for ${duration(overview.oldest_age_s)}`;
  const waits = unfinished ? `${count(unfinished)} ${unfinished === 1 ? "waits" : "wait"}${oldest}` : "nothing waits";
  const come = overview.accepted_per_s ? `${rate(overview.accepted_per_s)} come in, ` : "";
  return trouble("ok", "ok", `All is well: ${come}${waits}.`);
}

function trouble(key, colour, text, links = []) {
  return { key: `${colour} ${key}`, colour, text, links };
}

function because(why) {
  return why ? `: ${clipped(why)}` : "";
}

function clipped(text, most = MAX_WHY) {
  const line = text.replace(/\s+/g, " ").trim().replace(/\.$/, "");
  return line.length > most ? `${line.slice(0, most).trimEnd()} …` : line;
}
