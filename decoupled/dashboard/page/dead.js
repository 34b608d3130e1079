// Dead letters by their errors, the largest group first, and each of them; one, some, a group or all that match are
// redriven or purged (change.js). Who may not change anything sees the same, with buttons that are off, and why.

import { get } from "./api.js";
import { change } from "./change.js";
import { groupNode } from "./dead_groups.js";
import { h, replace, setText } from "./dom.js";
import { clause, count, plural } from "./format.js";
import { LetterList } from "./letters.js";
import { whenAccessChanges } from "./signin.js";

/** `context`: see contextOf in app.js. Its parameters: `workload` and `error` narrow all of it down; `of` and `alike`
 *  name the group whose letters are listed. */
export function mount(root, context) {
  const view = new DeadLetters(context);
  replace(root, h("h1", {}, "Dead letters"), view.node);
  return () => view.end();
}

class DeadLetters {
  #context;
  #sought;
  #total = 0; // of what the list shows
  #may = false;
  #asking = null;
  #counted = null; // how many there were when they were read
  #filter = h("form", { class: "panel search", role: "search", "aria-label": "Dead letters" });
  #why = h("p", { class: "notice", hidden: true });
  #news = h("p", { class: "notice is-warn", role: "status", hidden: true });
  #groups = h("section", { class: "panel", "aria-labelledby": "groups-title" });
  #title = h("h2", { id: "letters-title" }, "Letters");
  #all = h("input", { type: "checkbox", id: "all-letters", on: { change: () => this.#choiceChanged() } });
  #allLabel = h("label", { for: "all-letters" }, "All that match");
  #redrive = this.#action("redrive", "primary");
  #purge = this.#action("purge", "danger");
  #chosen = h("span", { class: "muted small", role: "status" });
  #list;
  #section;

  constructor(context) {
    this.#context = context;
    this.#sought = Object.fromEntries(
      ["workload", "error", "of", "alike"].map((name) => [name, context.params.get(name) ?? ""]),
    );
    this.#list = new LetterList(context, () => this.#choiceChanged());
    this.#section = h(
      "section",
      { class: "panel", "aria-labelledby": "letters-title" },
      this.#title,
      h(
        "div",
        { class: "row letters-bar" },
        h("span", { class: "choice" }, this.#all, this.#allLabel),
        this.#redrive,
        this.#purge,
        this.#chosen,
      ),
      this.#list.node,
    );
    this.node = h("div", { class: "stack" }, this.#filter, this.#why, this.#news, this.#groups, this.#section);
    this.#makeFilter();
    this.stopAccess = whenAccessChanges(context.live, (may, why) => {
      this.#may = may;
      this.#why.hidden = !why;
      const enter = h("button", { type: "button", on: { click: () => context.signIn() } }, "Sign in");
      replace(this.#why, why, " ", context.live.now?.access.how.length > 0 && enter);
      for (const button of this.#groups.querySelectorAll("button.acts")) button.disabled = !may;
      this.#choiceChanged();
    });
    this.stopNews = context.live.subscribe(({ now }) => this.#tellNews(now?.overview.dead));
    this.#load();
  }

  end() {
    this.#asking?.abort();
    this.#list.end();
    this.stopAccess();
    this.stopNews();
    this.stopWorkloads();
  }

  #makeFilter() {
    const workload = h(
      "select",
      { id: "dead-workload" },
      ["", ...[this.#sought.workload].filter(Boolean)].map((each) => h("option", { value: each }, each || "any")),
    );
    const error = h("input", {
      id: "dead-error",
      type: "search",
      placeholder: "type or text",
      autocomplete: "off",
      value: this.#sought.error,
    });
    workload.value = this.#sought.workload;
    replace(
      this.#filter,
      h(
        "div",
        { class: "field-grid" },
        h("div", { class: "field" }, h("label", { for: "dead-workload" }, "Workload"), workload),
        h("div", { class: "field" }, h("label", { for: "dead-error" }, "Error"), error),
        h("div", { class: "field field-button" }, h("button", { type: "submit" }, "Find")),
      ),
    );
    this.#filter.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#seek({ workload: workload.value, error: error.value.trim(), of: "", alike: "" });
    });
    this.stopWorkloads = this.#context.live.subscribe(({ now }) => {
      const known = new Set([...workload.options].map((each) => each.value));
      for (const { name } of now?.workloads ?? [])
        if (!known.has(name)) workload.append(h("option", { value: name }, name));
    });
  }

  #seek(sought) {
    this.#sought = sought;
    this.#context.rewrite(sought);
    this.#load();
  }

  async #load() {
    this.#asking?.abort();
    const asking = (this.#asking = new AbortController());
    const { workload, error } = this.#sought;
    try {
      const found = await get("dead", { workload, error }, { signal: asking.signal });
      this.#counted = this.#context.live.now?.overview.dead ?? null;
      this.#news.hidden = true;
      this.#showGroups(found);
      this.#showLetters(found);
    } catch (trouble) {
      if (asking.signal.aborted) return;
      const again = h("button", { type: "button", on: { click: () => this.#load() } }, "Try again");
      replace(
        this.#groups,
        h("h2", { id: "groups-title" }, "By error"),
        h("p", { role: "alert" }, `They cannot be read: ${clause(trouble.message)}. `, again),
      );
      this.#section.hidden = true;
    }
  }

  #isChosen(group) {
    return this.#sought.alike !== "" && group.alike === this.#sought.alike && group.workload === this.#sought.of;
  }

  #showGroups({ groups, total, note }) {
    const focused = document.activeElement?.closest?.(".dead-group")?.dataset.key;
    const rows = groups.map((group) => this.#groupNode(group, groups[0].count));
    const none =
      this.#sought.workload || this.#sought.error
        ? "No dead letter matches."
        : "There are no dead letters. What fails for good would be here, with its reason.";
    replace(
      this.#groups,
      h("h2", { id: "groups-title" }, "By error"),
      total
        ? h(
            "p",
            { class: "muted" },
            `${plural(total, "dead letter")}, ${plural(groups.length, "kind")} of error, the largest first.`,
          )
        : h("p", { class: "empty" }, none),
      note && h("p", { class: "muted small" }, note),
      h("ol", { class: "dead-groups" }, rows),
    );
    if (focused)
      [...this.#groups.querySelectorAll(".dead-group")]
        .find((each) => each.dataset.key === focused)
        ?.querySelector("button")
        ?.focus();
  }

  #groupNode(group, largest) {
    const { error } = this.#sought;
    const which = { workload: group.workload, alike: group.alike, ...(error && { error }) };
    const chosen = this.#isChosen(group);
    return groupNode(group, largest, {
      chosen,
      may: this.#may,
      href: this.#context.link("messages", [group.sample_id]),
      choose: () => this.#seek({ ...this.#sought, of: chosen ? "" : group.workload, alike: chosen ? "" : group.alike }),
      change: (kind) => this.#change(kind, which),
    });
  }

  #showLetters({ groups, total }) {
    const group = groups.find((each) => this.#isChosen(each));
    this.#total = group ? group.count : this.#sought.alike ? 0 : total;
    this.#section.hidden = !this.#total && !this.#sought.alike;
    this.#all.checked = false;
    setText(this.#title, group ? `Letters of this kind: ${count(this.#total)}` : `Letters: ${count(this.#total)}`);
    setText(this.#allLabel, `All ${count(this.#total)} that match`);
    this.#list.show(this.#matching(), this.#total);
  }

  /** What the list shows, as parameters and as a Which alike. */
  #matching() {
    const { workload, error, of, alike } = this.#sought;
    return Object.fromEntries(Object.entries({ workload: of || workload, error, alike }).filter(([, value]) => value));
  }

  #action(kind, look) {
    return h("button", {
      type: "button",
      class: look,
      disabled: true,
      on: {
        click: () => this.#change(kind, this.#all.checked ? this.#matching() : { ids: [...this.#list.chosen] }),
      },
    });
  }

  #choiceChanged() {
    if (!this.#list) return; // while it is made
    const all = this.#all.checked;
    const many = all ? this.#total : this.#list.chosen.size;
    this.#list.all = all;
    for (const [button, name] of [
      [this.#redrive, "Redrive"],
      [this.#purge, "Purge"],
    ]) {
      button.disabled = !this.#may || !many;
      setText(button, many ? `${name} ${count(many)} …` : `${name} …`);
    }
    setText(this.#chosen, many || !this.#may ? "" : "Choose letters; with shift, all in between.");
  }

  async #change(kind, which) {
    if (await change(kind, which, this.#context)) this.#load();
  }

  /** The list is left as it is while somebody reads it; that there is more, it says. */
  #tellNews(dead) {
    if (dead === undefined || this.#counted === null || dead === this.#counted) return;
    if (!this.#news.hidden) return;
    const again = h("button", { type: "button", on: { click: () => this.#load() } }, "Read them anew");
    replace(this.#news, "There are others now. ", again);
    this.#news.hidden = false;
  }
}
