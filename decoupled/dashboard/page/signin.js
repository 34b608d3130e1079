// Signing in and out: the account's corner in the header, a dialog, and the view that stands in for every other one
// while nobody may see anything before. A code in the address (#code=…) is used at once, and taken out of it.

import { get, post } from "./api.js";
import { h, replace, setText } from "./dom.js";

const LINK = /^#code=([^&]+)/;
const API_KEY = /^dk_/;

/** Whether whoever looks may change anything: the server has the last word, at each request. */
export function mayChange(live) {
  return live.now?.access.change === true;
}

/** Why the buttons that change something are off. */
export function whyNot(live) {
  const access = live.now?.access;
  if (!access || access.change) return "";
  return access.how.length
    ? "Read-only: sign in as an operator to change anything."
    : "Read-only: nothing can be changed from this page.";
}

/** Calls back with whether anything may be changed and why not: at once, and when that changes. */
export function whenAccessChanges(live, tell) {
  let told;
  return live.subscribe(() => {
    const now = `${mayChange(live)} ${whyNot(live)}`;
    if (now === told) return;
    told = now;
    tell(mayChange(live), whyNot(live));
  });
}

/** The view, while signing in is asked for: `context.live.state.why` says why. */
export function mount(root, { live, say }) {
  const ended = new AbortController();
  const place = h("div", {});
  const show = (how) => {
    const form = signInForm(how, () => signedIn(live, say));
    replace(place, form);
    form.querySelector("input").focus();
  };
  replace(
    root,
    h(
      "section",
      { class: "panel signin", "aria-labelledby": "signin-title" },
      h("h1", { id: "signin-title" }, "Sign in"),
      h("p", {}, live.state.why),
      place,
    ),
  );
  get("access", {}, { signal: ended.signal })
    .then(({ how }) => show(how))
    .catch(() => ended.signal.aborted || show([]));
  return () => ended.abort();
}

/** The corner of the header. Returns `{ open }`, which opens the dialog. */
export function mountAccount(root, { live, say }) {
  const open = () => openDialog(live, say);
  const enter = h("button", { type: "button", class: "quiet", on: { click: open } }, "Sign in");
  const leave = h("button", { type: "button", class: "quiet", on: { click: () => signOut(live, say) } }, "Sign out");
  let shown;
  live.subscribe(({ now, connection }) => {
    const { name = "", change = false, how = [] } = now?.access ?? {};
    const state = JSON.stringify([name, change, how.length, connection === "locked"]);
    if (state === shown) return;
    shown = state;
    if (name) replace(root, h("span", { class: "muted" }, h("bdi", {}, name)), leave);
    else
      replace(root, now && !change && h("span", { class: "muted" }, "Read-only"), how.length > 0 && !change && enter);
  });
  window.addEventListener("hashchange", () => useLink(live, say));
  useLink(live, say);
  return { open };
}

/** Use the code that the address has. It goes out of the address first: it is in no history, and is not shared. */
async function useLink(live, say) {
  const found = LINK.exec(location.hash);
  if (!found) return;
  history.replaceState(null, "", `${location.pathname}${location.search}#/`);
  try {
    await post("sign-in", { code: decodeURIComponent(found[1]) });
    signedIn(live, say);
  } catch (error) {
    say(`Not signed in: ${error.message}`, "bad");
  }
}

function signedIn(live, say) {
  say("Signed in.");
  live.refresh();
}

async function signOut(live, say) {
  try {
    await post("sign-out");
    say("Signed out.");
  } catch (error) {
    say(`Not signed out: ${error.message}`, "bad");
  }
  live.refresh();
}

function openDialog(live, say) {
  const dialog = h("dialog", { "aria-labelledby": "signin-title" });
  const close = () => dialog.close();
  const form = signInForm(
    live.now?.access.how,
    () => {
      close();
      signedIn(live, say);
    },
    close,
  );
  replace(dialog, h("h2", { id: "signin-title" }, "Sign in"), form);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

/** `how`: what signing in takes, where that is known; `done` is called once signed in. */
function signInForm(how, done, cancel) {
  const code = !how?.length || how.includes("code");
  const key = !how?.length || how.includes("key");
  const name = [code && "Code", key && "API key"].filter(Boolean).join(" or ");
  const input = h("input", {
    id: "signin-proof",
    type: "password",
    autocomplete: "off",
    spellcheck: "false",
    required: true,
    "aria-describedby": "signin-hint signin-wrong",
  });
  const wrong = h("p", { class: "wrong", id: "signin-wrong", role: "alert" });
  const button = h("button", { type: "submit", class: "primary" }, "Sign in");
  const hint = [
    code && [
      h("code", {}, "decoupled sign-in"),
      " prints a link with a code, on the machine whose data this is. It is good for ten minutes. ",
    ],
    key && "An operator’s API key does, too.",
  ];
  const form = h(
    "form",
    { class: "stack", novalidate: true },
    h(
      "div",
      { class: "field" },
      h("label", { for: "signin-proof" }, name),
      input,
      h("p", { class: "hint", id: "signin-hint" }, hint),
      wrong,
    ),
    h("div", { class: "row" }, button, cancel && h("button", { type: "button", on: { click: cancel } }, "Cancel")),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.disabled) return;
    button.disabled = true;
    setText(wrong, "");
    input.removeAttribute("aria-invalid");
    try {
      await post("sign-in", proofOf(input.value));
      done();
    } catch (error) {
      setText(wrong, error.message);
      input.setAttribute("aria-invalid", "true");
      input.focus();
    } finally {
      button.disabled = false;
    }
  });
  return form;
}

/** A key, a code, or the whole link that a code came in. */
function proofOf(text) {
  const said = text.trim();
  if (API_KEY.test(said)) return { key: said };
  return { code: said.includes("#code=") ? decodeURIComponent(said.split("#code=")[1]) : said };
}
