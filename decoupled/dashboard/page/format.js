// How numbers, durations and times are written, everywhere on the page. What is not known is an en dash. Pure, but for
// the clock.

import { serverNow } from "./clock.js";

export const UNKNOWN = "–";

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const minute = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });

const known = (value) => typeof value === "number" && Number.isFinite(value);

/** 1,204; from a million on 1.2M. */
export function count(value) {
  return !known(value) ? UNKNOWN : value >= 1_000_000 ? short.format(value) : whole.format(value);
}

/** 0/s, 3.4/s, 1,204/s */
export function rate(value) {
  if (!known(value)) return UNKNOWN;
  return `${value > 0 && value < 100 ? tenths.format(Math.max(value, 0.1)) : count(Math.round(value))}/s`;
}

/** 340 µs, 8.5 ms, 1.2 s, 42 s, 4 min, 2 h 5 min, 3 d 4 h */
export function duration(seconds) {
  if (!known(seconds)) return UNKNOWN;
  if (seconds <= 0) return "0 s";
  if (seconds < 0.0009995) return `${whole.format(seconds * 1e6)} µs`;
  if (seconds < 0.9995) return `${seconds < 0.00995 ? tenths.format(seconds * 1e3) : whole.format(seconds * 1e3)} ms`;
  if (seconds < 9.95 && !Number.isInteger(seconds)) return `${tenths.format(seconds)} s`;
  if (seconds < 119.5) return `${whole.format(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  const days = Math.floor(hours / 24);
  return hours % 24 && days < 10 ? `${days} d ${hours % 24} h` : `${count(days)} d`;
}

/** How long ago a time was, in milliseconds since the epoch. */
export function age(time, now = serverNow()) {
  return known(time) ? duration(Math.max(0, Math.round((now - time) / 1000))) : UNKNOWN;
}

/** 10:15, of the reader's own time zone. */
export function hourAndMinute(time) {
  return known(time) ? minute.format(time) : UNKNOWN;
}

/** 29 Nov 2026, 10:15:30 */
export function dateTime(time) {
  return known(time) ? `${day.format(time)}, ${clock.format(time)}` : UNKNOWN;
}

/** 2026-11-29T10:15:30.123Z: what records and logs say, for a title. */
export function exactTime(time) {
  return known(time) ? new Date(time).toISOString() : "";
}

/** 840 B, 12 KiB, 3.4 MiB */
export function bytes(value) {
  if (!known(value)) return UNKNOWN;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit += 1) value /= 1024;
  return `${unit && value < 9.95 ? tenths.format(value) : whole.format(value)} ${units[unit]}`;
}

/** "1 message", "2 messages" */
export function plural(value, one, more = `${one}s`) {
  return `${count(value)} ${value === 1 ? one : more}`;
}

/** Words that stand before others: without the full stop that they may end with. */
export function clause(text) {
  return text.replace(/\.$/, "");
}

/** With a capital letter first, for a sentence that begins with a name. */
export function sentence(text) {
  return text ? text[0].toUpperCase() + text.slice(1) : "";
}
