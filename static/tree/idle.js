// @ts-check
/** Times in which nothing but parents were open, and an axis on which such a time takes a few pixels. No DOM. */
import { RUNNING } from "./store.js";
import { began, ended } from "./times.js";

/** Shorter ones, as a share of the whole, are drawn as they are. */
export const LEAST = 0.05;
/** Pixels that a folded one takes. */
export const MARK = 28;
/** The time is looked at in so many parts; a gap that counts covers some of them whole. */
const PARTS = 128;

/** `parents`: some task with children was open in it. @typedef {{from: number, to: number, parents: boolean}} Gap */

/**
 * Gaps that are over, the first first. While something runs, one that still lasts is none.
 * @param {import("./store.js").Store} store @param {number} begin @param {number} finish @param {number} now @returns {Gap[]}
 */
export function idleGaps(store, begin, finish, now) {
  const { size, known, children } = store, part = (finish - begin) / PARTS;
  if (!(part > 0)) return [];
  const change = new Int32Array(PARTS + 1), first = new Float64Array(PARTS).fill(Infinity), last = new Float64Array(PARTS).fill(-Infinity);
  const at = (/** @type {number} */ ms) => Math.min(PARTS - 1, Math.max(0, Math.floor((ms - begin) / part)));
  let any = false;
  for (let n = 0; n < size; n++) {
    if (!known[n] || children[n]) continue;
    const from = began(store, n), to = Math.max(from, ended(store, n, now));
    if (Number.isNaN(from)) continue;
    any = true;
    const one = at(from), other = at(to);
    change[one]++;
    change[other + 1]--;
    if (from < first[one]) first[one] = from;
    if (to > last[other]) last[other] = to;
  }
  if (!any) return [];
  /** @type {Gap[]} */ const gaps = [];
  for (let p = 0, busy = 0, open = -1; p <= PARTS; p++) {
    if (p < PARTS) busy += change[p];
    if (p < PARTS && !busy) {
      if (open < 0) open = p;
      continue;
    }
    if (open < 0) continue;
    // Whatever was at work in the part before has ended in it, for here is nothing.
    const from = open ? last[open - 1] : begin, to = p < PARTS ? first[p] : finish;
    open = -1;
    if (to - from > LEAST * (finish - begin) && (p < PARTS || !store.totals[RUNNING])) gaps.push({ from, to, parents: false });
  }
  if (gaps.length) lookAbove(store, gaps, now);
  return gaps;
}

/** @param {import("./store.js").Store} store @param {Gap[]} gaps @param {number} now */
function lookAbove(store, gaps, now) {
  for (let n = 0; n < store.size; n++) {
    if (!store.known[n] || !store.children[n]) continue;
    const from = began(store, n), to = ended(store, n, now);
    for (const gap of gaps) if (from < gap.to && to > gap.from) gap.parents = true;
  }
}

/** Where a time stands on an axis of `room` pixels that shows what is between `from` and `to`: 0 at its left end, 1 at its right. */
export class Axis {
  /** @param {number} from @param {number} to @param {number} [room] @param {Gap[]} [gaps] */
  constructor(from, to, room = 0, gaps = []) {
    this.from = from;
    this.to = to;
    const width = to - from, seen = (/** @type {Gap} */ gap) => Math.max(0, Math.min(to, gap.to) - Math.max(from, gap.from));
    const hidden = gaps.reduce((sum, gap) => sum + seen(gap), 0);
    /** Milliseconds that are drawn as they are. */
    this.plain = width;
    /** Times in order, and where they stand. @type {number[]} */ this.times = [from, to];
    /** @type {number[]} */ this.places = [0, 1];
    // Inside of a gap there is nothing else to show; without a width nothing is drawn.
    if (!hidden || hidden >= width || !room) return;
    // Never wider than it is, nor all of them more than half of the axis.
    const mark = Math.min(MARK, room / 2 / gaps.length);
    const shown = (/** @type {Gap} */ gap) => Math.min(mark, (room * (gap.to - gap.from)) / width) / room;
    const folded = gaps.reduce((sum, gap) => sum + (shown(gap) * seen(gap)) / (gap.to - gap.from), 0);
    const scale = (1 - folded) / (width - hidden);
    this.plain = 1 / scale;
    this.times = [];
    this.places = [];
    let time = gaps[0].from, place = 0;
    for (const gap of gaps) {
      place += (gap.from - time) * scale;
      this.times.push(gap.from, gap.to);
      this.places.push(place, (place += shown(gap)));
      time = gap.to;
    }
    const zero = this.#along(this.times, this.places, from);
    this.places = this.places.map((one) => one - zero);
  }

  /** @param {number} ms */
  at(ms) {
    return this.#along(this.times, this.places, ms);
  }

  /** The other way round. @param {number} place */
  moment(place) {
    return this.#along(this.places, this.times, place);
  }

  /** Between two known values, or beyond them as things are drawn outside of gaps. @param {number[]} from @param {number[]} to @param {number} value */
  #along(from, to, value) {
    const last = from.length - 1, slope = from === this.times ? 1 / this.plain : this.plain;
    if (value <= from[0]) return to[0] - (from[0] - value) * slope;
    if (value >= from[last]) return to[last] + (value - from[last]) * slope;
    let k = 1;
    while (from[k] < value) k++;
    return to[k - 1] + ((value - from[k - 1]) / (from[k] - from[k - 1])) * (to[k] - to[k - 1]);
  }
}
