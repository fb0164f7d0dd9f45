// @ts-check
/** When a task began and when it ended, as its bar shows it. No DOM. */
import { isOpen } from "./store.js";

/** Its own start, else the first thing that is known at or below it; NaN with nothing. @param {import("./store.js").Store} store @param {number} n */
export function began({ start, end, children, spanFrom }, n) {
  if (!Number.isNaN(start[n])) return start[n];
  // Of an attempt that has gone, a task without children may still have a span.
  if (!children[n]) return end[n];
  return Number.isFinite(spanFrom[n]) ? spanFrom[n] : NaN;
}

/** Its own end; now while it is open. @param {import("./store.js").Store} store @param {number} n @param {number} now */
export function ended(store, n, now) {
  if (!Number.isNaN(store.end[n])) return store.end[n];
  return isOpen(store.status[n]) ? now : Math.max(began(store, n), store.spanTo[n]);
}
