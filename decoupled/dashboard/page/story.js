// The story of one message: what happened to it and when, why it failed, what it came to, and its body. All of it is
// text that clients and errors wrote: it is shown as text, never as markup.

import { get } from "./api.js";
import { h, replace } from "./dom.js";
import { change } from "./change.js";
import { serverNow } from "./clock.js";
import { age, clause, dateTime, duration, exactTime, plural } from "./format.js";
import { jsonText, parseJson, prettyJson } from "./schema.js";
import { mayChange, whyNot } from "./signin.js";

const AGAIN_MS = 2_000; // between two looks at one that has not ended
const IN_WORDS = {
  accepted: "Accepted",
  due: "Due",
  received: "Handed to a processor",
  failed: "Failed",
  waits: "Waits",
  processed: "Processed",
  rejected: "Rejected",
  dead: "Dead",
  edited: "Changed",
  emitted: "Sent on",
};

/** `context`: see contextOf in app.js; its path has the id. */
export function mount(root, context) {
  const [id] = context.path;
  const ended = new AbortController();
  const place = h("div", { class: "stack", tabindex: "-1" }, h("p", { class: "muted", role: "status" }, "Looking …"));
  replace(
    root,
    h("p", { class: "crumbs" }, h("a", { href: context.link("messages") }, "Messages")),
    h("h1", { class: "message-id" }, "Message ", h("code", {}, id)),
    place,
  );
  let timer = null;
  let shown = "";

  async function look() {
    clearTimeout(timer);
    try {
      const story = await get(`messages/${encodeURIComponent(id)}`, {}, { signal: ended.signal, read });
      const text = JSON.stringify(story);
      if (text !== shown) show(parts(story, context, look)); // what is being read stays as it is
      shown = text;
      if (story.row.status === "queued") timer = setTimeout(look, AGAIN_MS);
    } catch (error) {
      if (ended.signal.aborted) return;
      const passing = error.status === 0 || error.status >= 500;
      if (shown && passing)
        timer = setTimeout(look, AGAIN_MS); // that nobody answers, the header says
      else show(error.status === 404 ? unknown(id, error) : trouble(error, look));
    }
  }

  function show(...parts) {
    const held = place.contains(document.activeElement);
    replace(place, ...parts);
    if (held) place.focus();
  }

  look();
  return () => {
    clearTimeout(timer);
    ended.abort();
  };
}

/** Its result keeps the digits of its numbers: what clients are told is shown as they are told it. */
function read(text) {
  return { ...JSON.parse(text), result: parseJson(text).result };
}

function unknown(id, error) {
  return h(
    "div",
    { class: "notice is-warn", role: "status" },
    h("p", {}, h("strong", {}, "There is no such message here.")),
    h(
      "p",
      {},
      `${error.message} An id is the whole of what a 202 said in “id”. Perhaps it belongs to another server, or to another data directory.`,
    ),
  );
}

function trouble(error, again) {
  return h(
    "div",
    { class: "notice is-bad", role: "alert" },
    h("p", {}, `It cannot be told: ${clause(error.message)}.`),
    h("button", { type: "button", on: { click: again } }, "Try again"),
  );
}

function parts(story, context, look) {
  const { row, record } = story;
  return [
    h(
      "div",
      { class: "panel" },
      h(
        "p",
        { class: "row" },
        h("span", { class: `badge is-${row.status}` }, row.status),
        h("span", { class: "grow" }),
        row.status === "dead" && actions(row, context, look),
      ),
      facts(story, context),
    ),
    h(
      "section",
      { class: "panel", "aria-label": "What happened" },
      h("h2", {}, "What happened"),
      h(
        "ol",
        { class: "timeline" },
        story.steps.map((step) => stepNode(step, context)),
      ),
      story.note && h("p", { class: "muted small" }, story.note),
    ),
    story.result != null && json("Result", jsonText(story.result)),
    record.reason &&
      h(
        "section",
        { class: "panel", "aria-label": "Reason" },
        h("h2", {}, "Why it was rejected"),
        h("p", { dir: "auto" }, record.reason),
      ),
    json("Body", story.body == null ? null : prettyJson(story.body)),
  ].filter(Boolean);
}

function facts({ row, record, receive_count: received }, context) {
  const pairs = [
    [
      "Workload",
      h("a", { href: context.link("messages", [], { workload: row.workload }) }, h("bdi", {}, row.workload)),
    ],
    [
      "Caller",
      row.caller && h("a", { href: context.link("messages", [], { caller: row.caller }) }, h("bdi", {}, row.caller)),
    ],
    ["Group", row.group && h("bdi", {}, row.group)],
    ["Accepted", time(row.accepted_at)],
    [
      "Ended",
      row.finished_at != null && [
        time(row.finished_at),
        ` (after ${duration((row.finished_at - row.accepted_at) / 1000)})`,
      ],
    ],
    ["Failed attempts", row.attempts > 0 && String(row.attempts)],
    ["Handed out", received > 0 && plural(received, "time")],
    [
      "Last error",
      row.error_type &&
        h("div", { class: "clip", dir: "auto" }, h("code", {}, row.error_type), ": ", record.error || row.error),
    ],
  ];
  return h(
    "dl",
    { class: "pairs" },
    pairs.filter(([, value]) => value).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]),
  );
}

function time(at) {
  return h(
    "time",
    { datetime: exactTime(at), title: exactTime(at) },
    `${dateTime(at)}, ${at > serverNow() ? `in ${duration((at - serverNow()) / 1000)}` : `${age(at)} ago`}`,
  );
}

function stepNode(step, context) {
  return h(
    "li",
    { class: `step is-${step.what}` },
    h(
      "div",
      {},
      h("strong", {}, IN_WORDS[step.what] ?? step.what),
      " ",
      h("span", { class: "muted" }, step.at == null ? "" : time(step.at)),
    ),
    step.detail && h("div", { class: "said", dir: "auto" }, step.detail),
    step.id && h("div", {}, h("a", { class: "mono", href: context.link("messages", [step.id]) }, step.id)),
    step.traceback &&
      h(
        "details",
        {},
        h("summary", {}, "Traceback"),
        h("pre", { tabindex: "0", dir: "ltr", "aria-label": "Traceback" }, step.traceback),
      ),
  );
}

function json(title, text) {
  return h(
    "section",
    { class: "panel", "aria-label": title },
    h("h2", {}, title),
    text === null
      ? h("p", { class: "muted" }, "It is not kept any more: bodies are kept while a message waits, or is dead.")
      : h("pre", { tabindex: "0", "aria-label": title }, text),
  );
}

function actions(row, context, look) {
  const may = mayChange(context.live);
  const button = (kind, name, more) =>
    h(
      "button",
      {
        type: "button",
        disabled: !may,
        ...more,
        on: { click: () => change(kind, { ids: [row.id] }, context).then((done) => done && look()) },
      },
      name,
    );
  return [
    button("redrive", "Redrive …"),
    button("purge", "Purge …", { class: "danger" }),
    !may && h("span", { class: "muted small" }, whyNot(context.live)),
  ];
}
