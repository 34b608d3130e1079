// Finding messages. What is sought stands in the address, so that it can be shared; the story of one is in story.js.

import { get } from "./api.js";
import { h, replace, setText } from "./dom.js";
import { age, clause, dateTime, exactTime, plural } from "./format.js";
import * as story from "./story.js";

const PAGE = 50; // rows a look
const MAX_ROWS = 1_000; // in the list; whoever wants more narrows it down
const FIRST_FIELDS = 4; // that are always seen
const WIDE = "(min-width: 40rem)"; // where there is room for all of them
const STATUSES = ["queued", "processed", "rejected", "dead"];

/** `context`: see contextOf in app.js. "#/messages/ID" is the story of one. */
export function mount(root, context) {
  return context.path.length ? story.mount(root, context) : mountSearch(root, context);
}

function mountSearch(root, context) {
  const fields = makeFields(context);
  const nodes = fields.map((each) => each.node);
  const more = h(
    "details",
    { class: "more-fields" },
    h("summary", {}, "More to find by"),
    h("div", { class: "field-grid" }, nodes.slice(FIRST_FIELDS)),
  );
  const form = h(
    "form",
    { class: "panel search", role: "search", "aria-label": "Messages" },
    h("div", { class: "field-grid" }, nodes.slice(0, FIRST_FIELDS)),
    more,
    h(
      "div",
      { class: "row" },
      h("button", { class: "primary", type: "submit" }, "Find"),
      h("button", { type: "reset" }, "Clear"),
    ),
  );
  const found = h("section", { class: "found", "aria-label": "Found" });
  const results = new Results(found, context);
  replace(root, h("h1", {}, "Messages"), form, found);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const sought = values(fields);
    if (sought.id && Object.keys(sought).length === 1) context.go("messages", [sought.id]);
    else {
      context.rewrite(sought);
      results.look(sought);
    }
  });
  form.addEventListener("reset", () => {
    context.rewrite({});
    results.look({});
  });
  const stop = suggestWorkloads(form, context.live);
  for (const each of fields) each.set(context.params.get(each.name) ?? "");
  more.open = fields.slice(FIRST_FIELDS).some((each) => each.value()) || matchMedia(WIDE).matches;
  results.look(values(fields));
  return () => {
    stop();
    results.end();
  };
}

function makeFields({ params }) {
  return [
    textField("id", "Id", "of a message"),
    choiceField("status", "Status", STATUSES),
    choiceField("workload", "Workload", [params.get("workload")].filter(Boolean)),
    textField("error", "Error", "type or text"),
    textField("key", "Idempotency-Key", "as it was sent"),
    textField("caller", "Caller"),
    textField("group", "Group"),
    timeField("accepted_after", "Accepted from"),
    timeField("accepted_before", "Accepted until"),
  ];
}

function textField(name, label, placeholder) {
  const input = h("input", {
    id: `sought-${name}`,
    name,
    type: "search",
    placeholder,
    autocomplete: "off",
    spellcheck: "false",
  });
  return fieldOf(
    name,
    label,
    input,
    () => input.value.trim(),
    (value) => (input.value = value),
  );
}

function choiceField(name, label, choices) {
  const select = h(
    "select",
    { id: `sought-${name}`, name },
    h("option", { value: "" }, "any"),
    choices.map((each) => h("option", { value: each }, each)),
  );
  return fieldOf(
    name,
    label,
    select,
    () => select.value,
    (value) => (select.value = value),
  );
}

/** The reader's own clock in the field, milliseconds since the epoch in the address. */
function timeField(name, label) {
  const input = h("input", { id: `sought-${name}`, name, type: "datetime-local", step: "1" });
  const set = (value) => (input.value = value ? local(new Date(Number(value))) : "");
  return fieldOf(name, label, input, () => (input.value ? String(new Date(input.value).getTime()) : ""), set);
}

function local(time) {
  return Number.isNaN(time.getTime())
    ? ""
    : new Date(time.getTime() - time.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}

function fieldOf(name, label, input, value, set) {
  return { name, value, set, node: h("div", { class: "field" }, h("label", { for: input.id }, label), input) };
}

function values(fields) {
  return Object.fromEntries(fields.map((each) => [each.name, each.value()]).filter(([, value]) => value !== ""));
}

/** The workloads that are served, once they are known, among those that can be chosen. */
function suggestWorkloads(form, live) {
  const select = form.elements.workload;
  return live.subscribe(({ now }) => {
    const known = new Set([...select.options].map((each) => each.value));
    for (const { name } of now?.workloads ?? [])
      if (!known.has(name)) select.append(h("option", { value: name }, name));
  });
}

/** The list of what was found, newest first, with more of it on demand. */
class Results {
  #context;
  #line = h("p", { class: "muted", role: "status" });
  #list = h("ol", { class: "rows", "aria-label": "Messages, newest first" });
  #more = h("button", { type: "button", hidden: true, on: { click: () => this.#next() } }, "More");
  #asking = null;
  #sought = {};
  #cursor = null;

  constructor(root, context) {
    this.#context = context;
    this.#list.addEventListener("keydown", (event) => this.#step(event));
    replace(root, this.#line, this.#list, this.#more);
  }

  look(sought) {
    this.#sought = sought;
    this.#cursor = null;
    replace(this.#list);
    this.#next();
  }

  end() {
    this.#asking?.abort();
  }

  async #next() {
    this.#asking?.abort();
    const asking = (this.#asking = new AbortController());
    setText(this.#line, "Looking …");
    this.#more.disabled = true;
    try {
      const found = await get(
        "messages",
        { ...this.#sought, cursor: this.#cursor, limit: PAGE },
        { signal: asking.signal },
      );
      const first = found.rows[0] && this.#cursor !== null;
      const rows = found.rows.map((row) => rowNode(row, this.#context));
      this.#list.append(...rows);
      if (first) rows[0].querySelector("a").focus();
      this.#cursor = found.cursor ?? null;
      this.#tell(found.note);
    } catch (error) {
      if (!asking.signal.aborted) setText(this.#line, `It could not be looked for: ${clause(error.message)}.`);
    } finally {
      this.#more.disabled = false;
    }
  }

  #tell(note) {
    const count = this.#list.children.length;
    this.#more.hidden = this.#cursor === null || count >= MAX_ROWS;
    setText(this.#more, count ? "More" : "Look further back");
    const words = count
      ? `${plural(count, "message")}${this.#cursor === null ? "" : " so far"}, newest first.`
      : this.#nothing();
    const full = count >= MAX_ROWS && this.#cursor !== null ? "More than a page shows: narrow it down." : "";
    setText(this.#line, [words, note, full].filter(Boolean).join(" "));
  }

  #nothing() {
    if (this.#cursor !== null) return "None of those looked at so far.";
    return Object.keys(this.#sought).length ? "There is no such message." : "There is no message yet.";
  }

  /** Up and down from one to the next. */
  #step(event) {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!by) return;
    const links = [...this.#list.querySelectorAll("a")];
    links[links.indexOf(event.target) + by]?.focus();
    event.preventDefault();
  }
}

function rowNode(row, context) {
  const why = [row.error_type, row.error].filter(Boolean).join(": ") || row.reason;
  return h(
    "li",
    { class: "message-row" },
    h("span", { class: `badge is-${row.status}` }, row.status),
    h("a", { class: "mono", href: context.link("messages", [row.id]) }, row.id),
    h(
      "span",
      {},
      h("bdi", {}, row.workload),
      row.caller && [" · ", h("bdi", {}, row.caller)],
      row.group && row.group !== row.caller && [" · ", h("bdi", {}, row.group)],
    ),
    h(
      "time",
      { class: "muted", datetime: exactTime(row.accepted_at), title: exactTime(row.accepted_at) },
      `${dateTime(row.accepted_at)}, ${age(row.accepted_at)} ago`,
    ),
    why && h("span", { class: "said", dir: "auto" }, row.attempts ? `${plural(row.attempts, "attempt")}; ${why}` : why),
  );
}
