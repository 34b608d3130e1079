// Trying a workload: a form made of its schema, prefilled with its example; what is sent is followed until it has
// ended. The form is in form.js, what becomes of an entry in sending.js.

import { call } from "./api.js";
import { h, replace } from "./dom.js";
import { part } from "./form.js";
import { clause } from "./format.js";
import { entriesOf, jsonText, parseJson, prettyJson, sample, shapeOf } from "./schema.js";
import { follow, send } from "./sending.js";

const MAX_SHOWN = 10; // of what was sent, the latest

let callersKey = ""; // for this page's life only: it is stored nowhere

export function mount(root, context) {
  const ended = new AbortController();
  const place = h("div", { class: "try" }, h("p", { class: "muted" }, "Reading what can be sent…"));
  replace(root, h("h1", {}, "Try it"), place);
  const stop = whenKnown(context.live, (now) => {
    if (now.workloads.some((each) => each.form)) load(place, context, ended.signal);
    else replace(place, ...elsewhere(now));
  });
  return () => {
    stop();
    ended.abort();
  };
}

/** Once, as soon as the first look is there. */
function whenKnown(live, act) {
  let known = false;
  const stop = live.subscribe(({ now }) => {
    if (!now || known) return;
    known = true;
    act(now);
  });
  return stop;
}

/** This page is not the server's own, and a form could send nothing. */
function elsewhere(now) {
  const server = now.overview.server;
  const where = server
    ? h("p", {}, "The server's own page has the forms: ", h("a", { href: `${server}/#/try` }, `${server}/#/try`), ".")
    : h(
        "p",
        {},
        now.engine === "aws"
          ? "Send to the stack's own URL: decoupled status --stack NAME tells it."
          : "No server runs for it now: decoupled serve starts one.",
      );
  return [
    h("p", {}, "This page looks at ", h("strong", {}, now.system), " from outside, and sends nothing to it."),
    where,
  ];
}

async function load(place, context, signal) {
  try {
    const { status, body } = await call("GET", "openapi.json", undefined, {}, { signal });
    const entries = status === 200 && body ? entriesOf(body) : new Map();
    if (!entries.size) throw new Error(`the server tells of nothing that can be sent (${status})`);
    show(place, context, signal, body, entries);
  } catch (error) {
    if (signal.aborted) return;
    const again = h("button", { type: "button", on: { click: () => load(place, context, signal) } }, "Try again");
    replace(place, h("p", { role: "alert" }, `The forms cannot be made: ${clause(error.message)}.`), again);
  }
}

function show(place, context, signal, document, entries) {
  const asked = context.params.get("workload");
  const name = entries.has(asked) ? asked : entries.keys().next().value;
  const links = [...entries.keys()].map((each) =>
    h("a", { href: `#/try?workload=${encodeURIComponent(each)}`, "aria-current": each === name && "page" }, each),
  );
  const { schema, example } = entries.get(name);
  const shape = shapeOf(schema, document);
  const editor = new Editor(name, shape, example === undefined ? sample(shape) : example);
  const key = field(
    "Idempotency-Key",
    { type: "text", name: "idempotency-key", maxlength: "255" },
    "Optional: the same key is the same entry, however often it is sent.",
  );
  const proof = Object.keys(document.components?.securitySchemes ?? {}).length ? proofField() : null;
  const problem = h("p", { class: "wrong", role: "alert", hidden: true });
  const button = h("button", { class: "primary", type: "submit" }, "Send");
  const outcomes = h("ol", { class: "outcomes", "aria-label": "Sent from here, the latest first" });
  const form = h(
    "form",
    { class: "panel try-form", novalidate: true, "aria-label": `An entry of ${name}` },
    editor.node,
    h("div", { class: "fields" }, key.node, proof?.node),
    h("div", { class: "send-bar" }, button, h("span", { class: "muted" }, `POST /${name}`), problem),
  );

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.disabled) return;
    button.disabled = true;
    editor.clear();
    problem.hidden = true;
    if (proof) callersKey = proof.input.value.trim();
    try {
      const sent = await send(name, editor.text(), { key: key.input.value.trim(), proof: callersKey }, signal);
      if (sent.id) {
        const outcome = follow(name, sent, callersKey, signal);
        outcomes.prepend(outcome);
        if (outcomes.children.length > MAX_SHOWN) outcomes.lastChild.remove();
        outcome.scrollIntoView({ block: "nearest" });
      } else refuse(sent);
    } catch (error) {
      if (signal.aborted) return;
      const again = key.input.value.trim()
        ? "is safe, with the same key"
        : "without an Idempotency-Key makes two of it";
      tell(`${clause(error.message)}. It is not known whether it was accepted. If it was, sending it again ${again}.`);
    } finally {
      button.disabled = false;
    }
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });

  function refuse({ status, detail, errors }) {
    const elsewhere = errors
      .filter((each) => !editor.fault(each.pointer, each.detail))
      .map((each) => `${each.pointer} ${each.detail}`);
    tell([`${status}: ${detail}`, ...elsewhere].join(" "));
    form.querySelector('[aria-invalid="true"]')?.focus();
  }

  function tell(words) {
    problem.textContent = words;
    problem.hidden = false;
  }

  replace(
    place,
    h("nav", { class: "choices", "aria-label": "Workloads" }, links),
    h(
      "div",
      { class: "columns" },
      form,
      h(
        "section",
        { class: "panel", "aria-label": "What became of it" },
        h("h2", {}, "What became of it"),
        hint(outcomes),
        outcomes,
      ),
    ),
  );
}

function hint(outcomes) {
  const node = h("p", { class: "muted" }, "Send, and watch: accepted, queued, processed.");
  new MutationObserver(() => (node.hidden = outcomes.children.length > 0)).observe(outcomes, { childList: true });
  return node;
}

function proofField() {
  const proof = field(
    "API key or token",
    { type: "password", autocomplete: "off" },
    "The caller's. Kept in this page's memory only.",
  );
  proof.input.value = callersKey;
  return proof;
}

function field(name, attributes, words) {
  const id = `try-${name.toLowerCase().replace(/\W+/g, "-")}`;
  const input = h("input", {
    id,
    autocomplete: "off",
    spellcheck: "false",
    "aria-describedby": `${id}-hint`,
    ...attributes,
  });
  return {
    input,
    node: h(
      "div",
      { class: "field" },
      h("label", { for: id }, name),
      input,
      h("p", { class: "hint", id: `${id}-hint` }, words),
    ),
  };
}

/** The entry, as fields or as JSON text: what is changed in one is there in the other. */
class Editor {
  #form;
  #raw = h("textarea", {
    class: "raw",
    rows: "16",
    spellcheck: "false",
    "aria-label": "The entry as JSON",
    hidden: true,
  });
  #wrong = h("p", { class: "wrong", role: "alert", hidden: true });
  #toggle = h(
    "button",
    { type: "button", class: "slight", "aria-pressed": "false", on: { click: () => this.#switch() } },
    "Edit as JSON",
  );

  constructor(name, shape, value) {
    this.#form = part(shape, name);
    this.#form.set(value);
    this.node = h(
      "div",
      { class: "editor" },
      h("div", { class: "editor-bar" }, this.#toggle),
      this.#form.node,
      this.#raw,
      this.#wrong,
    );
  }

  get #isRaw() {
    return !this.#raw.hidden;
  }

  text() {
    return this.#isRaw ? this.#raw.value : this.#form.text();
  }

  clear() {
    this.#form.clear();
    this.#wrong.hidden = true;
    this.#raw.removeAttribute("aria-invalid");
  }

  // A fault of the server's, by its JSON pointer; whether there is a place to show it.
  fault(pointer, detail) {
    if (this.#isRaw) return false;
    const path = pointer
      .replace(/^#/, "")
      .split("/")
      .slice(1)
      .map((each) => decodeURIComponent(each).replace(/~1/g, "/").replace(/~0/g, "~"));
    return this.#form.fault(path, detail);
  }

  #switch() {
    this.clear();
    if (this.#isRaw) {
      try {
        this.#form.set(parseJson(this.#raw.value));
      } catch (error) {
        this.#wrong.textContent = `This is not JSON: ${error.message}`;
        this.#wrong.hidden = false;
        this.#raw.setAttribute("aria-invalid", "true");
        return;
      }
    } else this.#raw.value = prettyJson(this.#form.text());
    this.#raw.hidden = this.#isRaw;
    this.#form.node.hidden = this.#isRaw;
    this.#toggle.setAttribute("aria-pressed", String(this.#isRaw));
  }
}
