// Redriving and purging dead letters: first a dry run that says what would be done, then a person who says yes, then
// batches until all is done. Each batch is safe to repeat, so that after an error of the network it goes on.

import { post } from "./api.js";
import { kindsTable, merged } from "./dead_groups.js";
import { h, replace, setText } from "./dom.js";
import { clause, count, plural, sentence } from "./format.js";
import { Progress, summed } from "./progress.js";

const IDS_A_REQUEST = 500; // of a selection
const MAX_TRIES = 20; // of one batch, with pauses in between: three minutes
const LONGEST_PAUSE_S = 15;
const KINDS = {
  redrive: {
    title: "Redrive",
    verb: "Redrive",
    running: "Redriving …",
    done: "redriven",
    means:
      "They go back to the queue, and are tried again at the pace that the server sets. Effects happen once, however often a message is redriven.",
  },
  purge: {
    title: "Purge",
    verb: "Purge",
    running: "Purging …",
    done: "purged",
    means: "They are given up for good: rejected, without their bodies. This page cannot take it back.",
  },
};

/** Ask for it in a dialog and do it. `which`: a Which of dashboard/shapes.py. Resolves, once the dialog is closed, to
 *  whether anything was done. */
export function change(kind, which, context) {
  return new Promise((resolve) => new Dialog(kind, which, context, resolve));
}

class Dialog {
  #kind;
  #words;
  #parts;
  #context;
  #title = h("h2", { id: "change-title" });
  #body = h("div", { class: "stack" });
  #buttons = h("div", { class: "row dialog-buttons" });
  #dialog = h("dialog", { class: "change", "aria-labelledby": "change-title" }, this.#title, this.#body, this.#buttons);
  #closed = new AbortController();
  #running = false;
  #stopped = false;
  #changed = false;

  constructor(kind, which, context, resolve) {
    this.#kind = kind;
    this.#words = KINDS[kind];
    this.#parts = inParts(which);
    this.#context = context;
    const ended = { signal: this.#closed.signal };
    window.addEventListener("hashchange", () => this.#running || this.#dialog.close(), ended); // “back”, say
    window.addEventListener("beforeunload", (event) => this.#running && event.preventDefault(), ended);
    this.#dialog.addEventListener("cancel", (event) => this.#cancelled(event));
    this.#dialog.addEventListener("close", () => {
      if (this.#running) return this.#closedEarly();
      this.#closed.abort();
      this.#dialog.remove();
      if (this.#changed) context.live.refresh();
      resolve(this.#changed);
    });
    document.body.append(this.#dialog);
    this.#dialog.showModal();
    this.#dryRun();
  }

  /** Escape: while it runs it stops after the batch, and the dialog says how far it came. */
  #cancelled(event) {
    if (!this.#running) return;
    event.preventDefault();
    this.#buttons.firstElementChild.click(); // “Stop”, the only one
  }

  /** A browser closes it at a second Escape, whatever we say: it is not over before it says what it came to. */
  #closedEarly() {
    this.#dialog.showModal();
    this.#buttons.firstElementChild.click();
  }

  #show(title, body, buttons) {
    setText(this.#title, title);
    replace(this.#body, body);
    replace(this.#buttons, buttons);
    if (!this.#dialog.contains(document.activeElement)) this.#buttons.lastElementChild.focus();
  }

  #close(words = "Cancel") {
    return h("button", { type: "button", on: { click: () => this.#dialog.close() } }, words);
  }

  async #dryRun() {
    this.#show(this.#words.title, h("p", { role: "status" }, "Looking at what it would do …"), this.#close());
    try {
      const answers = [];
      for (const which of this.#parts) answers.push(await this.#ask({ which, dry_run: true }));
      const { until } = answers[0];
      if (!this.#parts[0].ids) this.#parts = this.#parts.map((which) => ({ dead_before: until, ...which }));
      const counts = summed(answers.map((each) => each.counts));
      const notes = new Set(answers.map((each) => each.note).filter(Boolean));
      this.#confirm(counts, merged(answers.flatMap((each) => each.kinds ?? [])), [...notes].join(" "));
    } catch (error) {
      if (this.#closed.signal.aborted) return;
      this.#show(
        this.#words.title,
        h("p", { class: "notice is-bad", role: "alert" }, `It cannot be told what it would do: ${clause(error.message)}.`),
        this.#close("Close"),
      );
    }
  }

  #confirm(counts, kinds, note) {
    const total = counts[this.#words.done] ?? 0;
    const others = Object.entries(counts).filter(([outcome]) => outcome !== this.#words.done);
    const left = others.map(([outcome, many]) => `${count(many)} ${outcome}`);
    if (!total) {
      this.#show(
        this.#words.title,
        h("p", { role: "status" }, ["There is nothing to do.", ...left].join(" ")),
        this.#close("Close"),
      );
      return;
    }
    const act = h(
      "button",
      { type: "button", class: this.#kind === "purge" ? "danger" : "primary" },
      `${this.#words.verb} ${count(total)}`,
    );
    act.addEventListener("click", () => this.#run(total));
    const typed = this.#kind === "purge" ? typedNumber(total, act) : null;
    this.#show(
      `${this.#words.title} ${plural(total, "dead letter")}?`,
      [
        h("p", {}, this.#words.means),
        kindsTable(kinds),
        left.length > 0 && h("p", { class: "muted" }, `Left alone: ${left.join(", ")}.`),
        note && h("p", { class: "muted" }, note),
        typed,
      ].filter(Boolean),
      [act, this.#close()],
    );
    (typed?.querySelector("input") ?? act).focus();
  }

  async #run(total) {
    this.#running = true;
    const progress = new Progress(this.#words, total);
    const stop = h(
      "button",
      {
        type: "button",
        on: {
          click: () => {
            this.#stopped = true;
            stop.disabled = true;
            progress.say("Stopping after this batch …");
          },
        },
      },
      "Stop",
    );
    this.#show(this.#words.running, progress.node, stop);
    stop.focus();
    let trouble = null;
    try {
      for (const which of this.#parts) await this.#batches(which, progress);
    } catch (error) {
      trouble = error;
    }
    this.#running = false;
    this.#finished(progress, trouble);
  }

  async #batches(which, progress) {
    let cursor = null;
    do {
      if (this.#stopped) return;
      const changed = await this.#patiently({ which, ...(cursor !== null && { cursor }) }, progress);
      this.#changed = true;
      progress.add(changed);
      cursor = changed.cursor ?? null;
    } while (cursor !== null);
  }

  /** A batch, again after an error of the network or of a server that is busy. */
  async #patiently(batch, progress) {
    for (let tries = 1; ; tries += 1) {
      try {
        return await this.#ask(batch);
      } catch (error) {
        const passing = error.status === 0 || error.status === 429 || error.status >= 500;
        if (!passing || tries >= MAX_TRIES || this.#stopped) throw error;
        await this.#pause(Math.min(error.retryAfterS ?? 2 ** (tries - 1), LONGEST_PAUSE_S), error, progress);
        if (this.#stopped) throw error;
      }
    }
  }

  async #pause(seconds, error, progress) {
    progress.say(`${clause(error.message)}: trying again. What was done stays done.`, true);
    for (let waited = 0; waited < seconds && !this.#stopped; waited += 0.25)
      await new Promise((resolve) => setTimeout(resolve, 250));
  }

  #finished(progress, trouble) {
    const done = progress.counts[this.#words.done] ?? 0;
    const title =
      trouble || this.#stopped
        ? `Stopped: ${count(done)} ${this.#words.done}`
        : `Done: ${count(done)} ${this.#words.done}`;
    const close = this.#close("Close");
    this.#show(
      title,
      [
        trouble &&
          h(
            "p",
            { class: "notice is-bad", role: "alert" },
            `${sentence(clause(trouble.message))}.${trouble.status === 403 ? " Sign in, and do it again." : ""} What was done stays done; doing it again is safe.`,
          ),
        progress.node,
        progress.outcomes(!trouble && !this.#stopped),
      ].filter(Boolean),
      close,
    );
    close.focus();
  }

  #ask(value) {
    return post(`dead/${this.#kind}`, value, { signal: this.#closed.signal });
  }
}

/** Purging asks for the number to be typed. */
function typedNumber(total, act) {
  act.disabled = true;
  const input = h("input", { id: "change-typed", inputmode: "numeric", autocomplete: "off" });
  input.addEventListener("input", () => (act.disabled = input.value.replace(/[\s,.]/g, "") !== String(total)));
  return h("div", { class: "field" }, h("label", { for: "change-typed" }, `Type ${total} to go on`), input);
}

/** A selection in requests of a bounded size; anything else is one. */
function inParts(which) {
  if (!which.ids) return [which];
  return Array.from({ length: Math.ceil(which.ids.length / IDS_A_REQUEST) }, (_, index) => ({
    ...which,
    ids: which.ids.slice(index * IDS_A_REQUEST, (index + 1) * IDS_A_REQUEST),
  }));
}
