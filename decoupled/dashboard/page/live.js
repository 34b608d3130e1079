// What the server says of itself, once a second while somebody looks, and how the connection to it is. One of these for
// the whole page; the views subscribe.

import { get } from "./api.js";

const EVERY_MS = 1_000;
const LONGEST_PAUSE_MS = 10_000; // between two tries, while the server does not answer
const FAILURES_TO_SAY = 2; // one look may fail: a server has just been busy

/** Looks until it is closed. `state`: `now`, the last Live or null; `connection`: "connecting", "ok", "lost" or
 *  "locked" (signing in is asked for); `since`: when that began; `why`: in words; `trouble`: the answer that locks. */
export class LiveLook {
  state = { now: null, connection: "connecting", since: Date.now(), why: "", trouble: null };
  #listeners = new Set();
  #failures = 0;
  #timer = null;
  #asking = null;

  constructor() {
    document.addEventListener("visibilitychange", () => this.refresh());
    window.addEventListener("online", () => this.refresh());
    this.refresh();
  }

  get now() {
    return this.state.now;
  }

  /** Called with the state at once, and after each look. Returns what ends that. */
  subscribe(listener) {
    this.#listeners.add(listener);
    listener(this.state);
    return () => this.#listeners.delete(listener);
  }

  /** Look now: after a change, after signing in, or when the tab is seen again. A hidden tab asks nothing. */
  refresh() {
    clearTimeout(this.#timer);
    this.#asking?.abort();
    this.#asking = null;
    if (!document.hidden) this.#look();
  }

  async #look() {
    const asking = (this.#asking = new AbortController());
    const began = performance.now();
    try {
      const now = await get("live", {}, { signal: asking.signal });
      this.#failures = 0;
      this.#becomes({ now, connection: "ok", why: "", trouble: null });
    } catch (error) {
      if (asking.signal.aborted) return; // another look has taken its place
      this.#failed(error);
    }
    if (document.hidden || this.#asking !== asking) return;
    this.#timer = setTimeout(() => this.refresh(), this.#pause(performance.now() - began));
  }

  #failed(error) {
    this.#failures += 1;
    if (error.status === 401 || error.status === 403) {
      this.#becomes({ now: null, connection: "locked", why: error.message, trouble: error });
    } else if (this.#failures >= FAILURES_TO_SAY || this.state.connection !== "ok") {
      this.#becomes({ connection: "lost", why: error.message, trouble: null });
    }
  }

  /** Once a second; the longer nobody answers the less often, and not all pages at the same moment. */
  #pause(tookMs) {
    if (!this.#failures) return Math.max(EVERY_MS - tookMs, EVERY_MS / 4);
    return Math.min(EVERY_MS * 2 ** (this.#failures - 1), LONGEST_PAUSE_MS) * (0.75 + Math.random() / 2);
  }

  #becomes(change) {
    const since = change.connection === this.state.connection ? this.state.since : Date.now();
    this.state = { ...this.state, ...change, since };
    for (const listener of this.#listeners) listener(this.state);
  }
}
