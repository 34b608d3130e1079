// The shell at work: which view is shown, by the address's hash; the header and the footer; what is said when the
// connection is lost. What a view shows is in its own module: `mount(root, context)`, which returns what unmounts it.

import { serverNow } from "./clock.js";
import { h, replace, setAttribute, setText } from "./dom.js";
import { age, clause, count, duration } from "./format.js";
import { LiveLook } from "./live.js";
import * as dead from "./dead.js";
import * as messages from "./messages.js";
import * as overview from "./overview.js";
import * as signin from "./signin.js";
import * as tryIt from "./try.js";

const VIEWS = { overview, messages, dead, try: tryIt };
const TITLES = { overview: "Overview", messages: "Messages", dead: "Dead letters", try: "Try it" };
const OLD_MS = 15_000; // that a look is not older than, in most systems
const SAID_MS = 8_000; // that a saying stays
const MAX_SAYINGS = 3; // at a time

const live = new LiveLook();
const main = document.getElementById("main");
let unmount = null;
let shown = null; // the hash that is shown, or "locked"

/** "#/messages/ID?status=dead" is the view `messages`, the path ["ID"], and its parameters. */
function route(hash = location.hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const parts = path.split("/").filter(Boolean).map(decoded);
  const view = Object.hasOwn(VIEWS, parts[0] ?? "") ? parts.shift() : "overview";
  return { view, path: parts, params: new URLSearchParams(query) };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The hash of a view: `link("messages", ["ID"], {status: "dead"})`; what is null or "" is left out. */
function link(view, path = [], params = {}) {
  const given = Object.entries(params).filter(([, value]) => value != null && value !== "");
  const query = given.length ? `?${new URLSearchParams(given)}` : "";
  return `#/${[view === "overview" ? "" : view, ...path.map(encodeURIComponent)].filter(Boolean).join("/")}${query}`;
}

/** What every view is given. */
function contextOf({ view, path, params }) {
  return {
    live, // a LiveLook: what the server says of itself, once a second
    path,
    params,
    link,
    go: (...to) => (location.hash = link(...to)),
    /** Other parameters in the address, with the view left as it is: so that what is sought can be shared. */
    rewrite(changed) {
      shown = link(view, path, changed);
      history.replaceState(null, "", shown);
    },
    say,
    signIn: () => account.open?.(),
  };
}

function show() {
  const locked = live.state.connection === "locked";
  const ours = location.hash.startsWith("#/"); // and else a code to sign in with, or nothing
  if (!ours && !locked && shown !== null && shown !== "locked" && location.hash) return;
  const wanted = locked ? "locked" : ours ? location.hash : "#/";
  if (wanted === shown) return;
  const first = shown === null;
  shown = wanted;
  unmount?.();
  const to = route();
  replace(main);
  main.className = `view view-${locked ? "signin" : to.view}`;
  unmount = (locked ? signin : VIEWS[to.view]).mount(main, contextOf(to));
  for (const tab of document.querySelectorAll(".tabs a")) {
    setAttribute(tab, "aria-current", !locked && tab.dataset.view === to.view ? "page" : null);
  }
  if (!first) {
    window.scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
  title();
}

function title() {
  const { now, connection } = live.state;
  const colours = Object.values(now?.boxes ?? {}).map((box) => box.colour);
  const worst = colours.includes("bad") ? "trouble" : colours.includes("warn") ? "look" : "";
  const how = connection === "lost" ? "no connection" : worst;
  const view = connection === "locked" ? "Sign in" : TITLES[route().view];
  document.title = `${how ? `(${how}) ` : ""}${view} · ${now?.system ?? "decoupled"}`;
}

function header({ now, connection, since, why }) {
  setText(document.getElementById("system"), now?.system ?? "");
  const dead = document.getElementById("dead-count");
  dead.hidden = !now?.overview.dead;
  setText(dead, now?.overview.dead ? count(now.overview.dead) : "");
  // Said once, when it is lost and when it is back; not at every try: the seconds are in a part that is not read out.
  const lost = connection === "lost";
  document.body.classList.toggle("is-lost", lost);
  const line = document.getElementById("connection");
  line.className = `connection is-${connection}`;
  const words = {
    ok: "Live",
    connecting: "Connecting …",
    locked: "Signed out",
    lost: `No connection: ${clause(why)}. Trying again.`,
  };
  if (line.firstChild?.textContent !== words[connection]) {
    replace(line, h("span", {}, words[connection]), h("span", { "aria-hidden": "true" }));
  }
  const old = connection === "ok" && serverNow() - now.taken_at > OLD_MS; // looks take long, and so come less often
  const seen = lost ? ` Last seen ${duration(Math.round((Date.now() - since) / 1000))} ago.` : "";
  setText(line.lastChild, old ? ` (${age(now.taken_at)} old)` : seen);
}

function footer({ now }) {
  const foot = document.getElementById("foot");
  if (!now || foot.dataset.shown === now.version) return;
  const other = foot.dataset.shown ? "The server has another version now: " : "";
  foot.dataset.shown = now.version;
  replace(
    foot,
    h("span", {}, `decoupled ${now.version}`),
    now.workloads.some(({ form }) => form) && h("a", { href: "docs" }, "API"),
    h("a", { href: "metrics" }, "Metrics"),
    other && h("strong", {}, other, h("a", { href: "" }, "load its page"), "."),
  );
}

/** A short word on what was done, which goes away by itself and is read out. `kind`: ok, warn or bad. */
function say(text, kind = "ok") {
  const sayings = document.getElementById("sayings");
  while (sayings.children.length >= MAX_SAYINGS) sayings.firstChild.remove();
  const saying = h("p", { class: `saying is-${kind}` }, text);
  sayings.append(saying);
  setTimeout(() => saying.remove(), SAID_MS);
}

// Signing in is always there, in the header: `mount` returns what opens its dialog as `open`, too.
const account = signin.mountAccount(document.getElementById("account"), { live, say }) ?? {};

document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the hash is the view's
  main.focus();
});
window.addEventListener("hashchange", show);
setInterval(() => live.state.connection === "lost" && header(live.state), 1_000);
live.subscribe((state) => {
  header(state);
  footer(state);
  show();
  title();
});
