// The last hour in columns: what the server has kept, and behind it what has been seen live since. Where nothing was
// measured there is a gap. Nothing is drawn here.

export const SPAN_S = 3600;
const GAP_STEPS = 2.5; // between two samples, before they are not joined any more

/** What each chart's column is in a look at the server. */
const LIVE = {
  accepted_per_s: (live) => live.overview.accepted_per_s,
  processed_per_s: (live) => live.overview.processed_per_s,
  rejected_per_s: (live) => live.rejected_per_s,
  dead_per_s: (live) => live.dead_per_s,
  retried_per_s: (live) => live.retried_per_s,
  queued: (live) => live.overview.queued,
  oldest_age_s: (live) => live.overview.oldest_age_s,
  accept_p99_s: (live) => live.accept.p99_s,
  waiting_p99_s: (live) => live.waiting.p99_s,
  processing_p99_s: (live) => live.processing.p99_s,
};
export const COLUMNS = Object.keys(LIVE);

/** `times` in seconds since the epoch, and `series` by their names. */
export class Past {
  stepS = 5;
  times = [];
  series = Object.fromEntries(COLUMNS.map((name) => [name, []]));

  /** What the server has kept (`History`), instead of all that was here; what was seen live after it stays. */
  replace(history) {
    const old = { times: this.times, series: this.series };
    this.stepS = history.step_s || this.stepS;
    this.times = [];
    this.series = Object.fromEntries(COLUMNS.map((name) => [name, []]));
    history.times.forEach((time, place) => {
      this.#add(time / 1000, (name) => history.series[name]?.[place] ?? null);
    });
    const last = history.times.length ? history.times.at(-1) / 1000 : 0;
    old.times.forEach((time, place) => {
      if (time > last) this.#add(time, (name) => old.series[name][place]);
    });
  }

  /** A look at the server, once a step. Returns whether it was taken. */
  append(live) {
    const time = live.taken_at / 1000;
    if (this.times.length && time - this.times.at(-1) < this.stepS) return false;
    this.#add(time, (name) => LIVE[name](live) ?? null);
    return true;
  }

  #add(time, value) {
    const before = this.times.at(-1);
    if (before !== undefined && time <= before) return;
    if (before !== undefined && time - before > this.stepS * GAP_STEPS) this.#push(before + this.stepS, () => null);
    this.#push(time, value);
    while (this.times.length && this.times[0] < time - SPAN_S) this.#shift();
  }

  #push(time, value) {
    this.times.push(time);
    for (const name of COLUMNS) this.series[name].push(value(name));
  }

  #shift() {
    this.times.shift();
    for (const name of COLUMNS) this.series[name].shift();
  }
}
