// A list of dead letters as long as it may be: only the rows that are seen, and some around them, are elements; the
// rest is asked for as one scrolls on. What is chosen is kept by id. Rows have one height, of which all places are
// made.

import { get } from "./api.js";
import { h, replace, setText } from "./dom.js";
import { age, clause, count, exactTime } from "./format.js";

const ROW_REM = 3.75;
const AROUND = 8; // rows above and below what is seen
const PAGE = 200; // letters asked for at once
const MAX_ROWS = 20_000; // in the list: whoever wants more narrows it down, or acts on all that match
const MAX_PAGES_AT_ONCE = Math.ceil(MAX_ROWS / PAGE);

export class LetterList {
  chosen = new Set();
  #context;
  #changed; // called when what is chosen changes
  #sought = {};
  #letters = [];
  #rows = new Map(); // elements by their place
  #cursor = null;
  #loading = null;
  #total = 0;
  #all = false;
  #last = null; // the place that was chosen last: shift goes from there
  #height = ROW_REM * parseFloat(getComputedStyle(document.documentElement).fontSize);
  #space = h("div", { class: "letters-space", role: "rowgroup" });
  #scroller = h("div", { class: "letters-scroller" }, this.#space);
  #table = h("div", { role: "table", "aria-label": "Dead letters, oldest first" }, this.#scroller);
  #line = h("p", { class: "muted small", role: "status" });

  constructor(context, changed) {
    this.#context = context;
    this.#changed = changed;
    this.node = h("div", { class: "letters" }, this.#table, this.#line);
    this.#scroller.addEventListener("scroll", () => this.#draw(), { passive: true });
    this.#scroller.addEventListener("keydown", (event) => this.#step(event));
    this.#scroller.addEventListener("focusout", () => requestAnimationFrame(() => this.#draw()));
    this.resized = new ResizeObserver(() => this.#draw());
    this.resized.observe(this.#scroller);
  }

  /** Those that are sought, of which there are so many, from the start. */
  show(sought, total) {
    this.#loading?.abort();
    this.#loading = null;
    this.#sought = sought;
    this.#total = total;
    this.#letters = [];
    this.#cursor = null;
    this.#rows.clear();
    this.#last = null;
    this.chosen.clear();
    replace(this.#space);
    this.#scroller.scrollTop = 0;
    setText(this.#line, "");
    this.#resize();
    this.#changed();
    if (total) this.#load(1);
  }

  end() {
    this.#loading?.abort();
    this.resized.disconnect();
  }

  /** All that match are chosen: then none is by itself. */
  set all(all) {
    this.#all = all;
    for (const [place, row] of this.#rows) this.#mark(place, row);
  }

  #size() {
    return Math.min(this.#total, MAX_ROWS);
  }

  #resize() {
    this.#table.setAttribute("aria-rowcount", String(this.#total));
    this.#space.style.height = `${this.#size() * this.#height}px`;
    this.#draw();
  }

  /** Ask on until there are so many letters; one page after the other, since each begins where the last one ended. */
  async #load(wanted) {
    if (this.#loading || this.#letters.length >= wanted) return;
    const loading = (this.#loading = new AbortController());
    try {
      for (let page = 0; page < MAX_PAGES_AT_ONCE && this.#letters.length < Math.min(wanted, this.#size()); page += 1) {
        const found = await get(
          "dead/letters",
          { ...this.#sought, cursor: this.#cursor, limit: PAGE },
          { signal: loading.signal },
        );
        this.#letters.push(...found.letters);
        this.#cursor = found.cursor ?? null;
        this.#draw();
        if (this.#cursor === null) {
          this.#total = this.#letters.length; // some are gone, or came, since they were counted
          this.#resize();
        }
        wanted = Math.max(wanted, this.#seen()[1]);
      }
      this.#tell();
    } catch (error) {
      if (!loading.signal.aborted) this.#failed(error);
    } finally {
      if (this.#loading === loading) this.#loading = null;
    }
  }

  #failed(error) {
    const again = h("button", { type: "button", on: { click: () => this.#load(this.#seen()[1]) } }, "Try again");
    replace(this.#line, `More cannot be read: ${clause(error.message)}. `, again);
  }

  #tell() {
    const cut =
      this.#total > MAX_ROWS
        ? ` The list ends after ${count(MAX_ROWS)}: narrow it down, or choose all that match.`
        : "";
    setText(this.#line, `${count(this.#letters.length)} of ${count(this.#total)} read, oldest first.${cut}`);
  }

  /** The places from and to which rows are seen, and some around. */
  #seen() {
    const first = Math.floor(this.#scroller.scrollTop / this.#height) - AROUND;
    const many = Math.ceil(this.#scroller.clientHeight / this.#height) + 2 * AROUND;
    return [Math.max(0, first), Math.min(this.#size(), Math.max(0, first) + many)];
  }

  #draw() {
    const [from, to] = this.#seen();
    for (const [place, row] of this.#rows) {
      if ((place >= from && place < to) || row.contains(document.activeElement)) continue; // focus is not lost by scrolling
      row.remove();
      this.#rows.delete(place);
    }
    for (let place = from; place < to; place += 1) this.#put(place);
    if (to > this.#letters.length && (this.#cursor !== null || !this.#letters.length)) this.#load(to);
  }

  #put(place) {
    const letter = this.#letters[place];
    const there = this.#rows.get(place);
    if (there && (there.dataset.id ?? "") === (letter?.id ?? "")) return;
    there?.remove();
    const row = this.#row(place, letter);
    this.#rows.set(place, row);
    this.#space.insertBefore(
      row,
      [...this.#space.children].find((other) => Number(other.dataset.place) > place) ?? null,
    );
  }

  #row(place, letter) {
    const row = h("div", {
      class: "letter",
      role: "row",
      "aria-rowindex": String(place + 1),
      "data-place": String(place),
      "data-id": letter?.id,
    });
    row.style.transform = `translateY(${place * this.#height}px)`;
    row.style.height = `${this.#height}px`;
    if (!letter) return replace(row, h("div", { role: "cell", class: "muted" }, "…"));
    const box = h("input", {
      type: "checkbox",
      "aria-label": `Choose ${letter.id}`,
      on: { click: (event) => this.#choose(place, event) },
    });
    const error = [letter.error_type, letter.error].filter(Boolean).join(": ");
    replace(
      row,
      h("div", { role: "cell", class: "letter-box" }, box),
      h(
        "div",
        { role: "cell", class: "letter-id" },
        h("a", { class: "mono", href: this.#context.link("messages", [letter.id]) }, letter.id),
      ),
      h(
        "div",
        { role: "cell", class: "letter-whose muted" },
        h("bdi", {}, letter.workload),
        letter.caller && [" · ", h("bdi", {}, letter.caller)],
      ),
      h(
        "div",
        { role: "cell", class: "letter-age muted" },
        h(
          "time",
          { datetime: exactTime(letter.dead_at), title: exactTime(letter.dead_at) },
          `${age(letter.dead_at)} ago`,
        ),
      ),
      h("div", { role: "cell", class: "letter-error", dir: "auto", title: error }, error || "the queue gave it up"),
    );
    this.#mark(place, row);
    return row;
  }

  #mark(place, row) {
    const box = row.querySelector("input");
    if (!box) return;
    box.checked = this.#all || this.chosen.has(this.#letters[place].id);
    box.disabled = this.#all;
    row.classList.toggle("is-chosen", box.checked);
  }

  /** A click chooses one; with shift, all from the last one to this one. */
  #choose(place, event) {
    const checked = event.target.checked;
    const from = event.shiftKey && this.#last !== null ? this.#last : place;
    for (let each = Math.min(from, place); each <= Math.max(from, place); each += 1) {
      const id = this.#letters[each]?.id;
      if (id !== undefined && checked) this.chosen.add(id);
      else this.chosen.delete(id);
    }
    this.#last = place;
    for (const [each, row] of this.#rows) this.#mark(each, row);
    this.#changed();
  }

  /** Up and down from one checkbox to the next, through all of them. */
  #step(event) {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const row = event.target.closest(".letter");
    if (!by || !row) return;
    event.preventDefault();
    const place = Number(row.dataset.place) + by;
    if (place < 0 || place >= this.#letters.length) return;
    this.#put(place);
    this.#rows
      .get(place)
      .querySelector(event.target.matches("a") ? "a" : "input")
      ?.focus();
  }
}
