// @ts-check
/**
 * The run as it was at a moment, told by what its tasks say of their beginnings and ends. No DOM.
 * The store that the page shows becomes that moment; what arrives meanwhile is applied to another, which goes on as the store was.
 */
import { DIFFERS, HOLDS, PENDING, RUNNING, STATUSES, Store, isOpen } from "./store.js";
import { began, ended } from "./times.js";

const WIDTH = STATUSES.length;

/** A store that has all that another has now, and goes on by itself. @param {Store} store @returns {Store} */
function twin(store) {
  const made = /** @type {any} */ (new Store());
  for (const [key, value] of Object.entries(store)) {
    made[key] = ArrayBuffer.isView(value) ? /** @type {any} */ (value).slice() : Array.isArray(value) ? value.slice() : value instanceof Map ? new Map(value) : value;
  }
  return made;
}

export class Past {
  /** @param {Store} store what is shown @param {number} now until when it can be told */
  constructor(store, now) {
    this.store = store;
    /** What goes on beneath. */
    this.live = twin(store);
    this.begin = store.from;
    this.end = Math.max(store.from, now);
    /** Of so many no time is known that could tell when they became what they are: they stand as they are now. */
    this.unsure = 0;
    /** Of so many the attempts before the last are not known. */
    this.again = 0;
    this.start = store.start.slice();
    this.finish = store.end.slice();
    this.attempt = store.attempt.slice();
    /** Parents after all below them. */
    this.upwards = this.#upwards();
    this.#listChanges(now);
    /** Changes that have been, of those in order of their time. */
    this.been = 0;
    this.#clear();
    store.past = true;
    this.at = -Infinity;
    this.go(this.begin);
  }

  #upwards() {
    const { tops, first, next, size } = this.store, all = new Int32Array(size), todo = tops.slice();
    let at = size;
    for (let n = todo.pop(); n !== undefined; n = todo.pop()) {
      all[--at] = n;
      for (let c = first[n]; c >= 0; c = next[c]) todo.push(c);
    }
    return all.subarray(at);
  }

  /** When each task began and ended. @param {number} now */
  #listChanges(now) {
    const { store } = this, { size, known, status, attempt } = store;
    const times = new Float64Array(2 * size), nodes = new Int32Array(2 * size), states = new Uint8Array(2 * size);
    /** Stands as it is now. */
    this.fixed = new Uint8Array(size);
    /** Is known to have run. */
    this.ran = new Uint8Array(size);
    let count = 0;
    const add = (/** @type {number} */ n, /** @type {number} */ ms, /** @type {number} */ state) => {
      times[count] = ms;
      nodes[count] = n;
      states[count++] = state;
    };
    for (let n = 0; n < size; n++) {
      if (!known[n]) continue;
      if (attempt[n] > 1) this.again++;
      if (status[n] === PENDING) continue;
      const open = isOpen(status[n]), from = began(store, n), to = open ? NaN : ended(store, n, now);
      if (Number.isNaN(open ? from : to)) {
        this.fixed[n] = 1;
        this.unsure++;
        continue;
      }
      // A clock that is ahead does not put anything behind the present.
      if (open || from < to) add(n, Math.min(from, this.end), RUNNING), this.ran[n] = 1;
      if (!open) add(n, Math.min(Math.max(from, to), this.end), status[n]);
    }
    // Of one task its beginning stands before its end, and stays there.
    const order = new Uint32Array(count).map((_, at) => at).sort((a, b) => times[a] - times[b] || a - b);
    this.times = new Float64Array(count);
    this.nodes = new Int32Array(count);
    this.states = new Uint8Array(count);
    order.forEach((from, at) => {
      this.times[at] = times[from];
      this.nodes[at] = nodes[from];
      this.states[at] = states[from];
    });
  }

  /** Before anything was. */
  #clear() {
    const { store } = this, { size, known, status, start, end, over } = store;
    for (let n = 0; n < size; n++) {
      if (!known[n]) continue;
      over[n] &= ~HOLDS;
      store.progress[n] = NaN;
      if (this.fixed[n]) continue;
      over[n] &= ~DIFFERS;
      status[n] = PENDING;
      start[n] = end[n] = NaN;
      if (this.attempt[n] > 1) store.attempt[n] = 0;
    }
    for (const column of [store.rest, store.acting, store.holding]) column.fill(0);
    store.intents = new Map();
    store.plannedRest = 0;
    store.newest = -1;
    store.byId = null;
  }

  /** Another moment: what lies between is done or undone, then all sums are made anew (2 ms at 100,000 tasks). @param {number} ms */
  go(ms) {
    const at = Math.max(this.begin, Math.min(this.end, ms));
    if (at === this.at) return;
    this.at = at;
    while (this.been < this.times.length && this.times[this.been] <= at) this.#become(this.been++);
    while (this.been > 0 && this.times[this.been - 1] > at) this.#undo(--this.been);
    this.#sum();
    this.store.epoch++;
  }

  /** @param {number} change */
  #become(change) {
    const { store } = this, n = this.nodes[change], state = this.states[change];
    store.status[n] = state;
    store.start[n] = this.start[n];
    store.attempt[n] = this.attempt[n];
    if (state !== RUNNING) store.end[n] = this.finish[n];
  }

  /** @param {number} change */
  #undo(change) {
    const { store } = this, n = this.nodes[change], ran = this.states[change] !== RUNNING && this.ran[n] === 1;
    store.status[n] = ran ? RUNNING : PENDING;
    store.end[n] = NaN;
    if (ran) return;
    store.start[n] = NaN;
    if (this.attempt[n] > 1) store.attempt[n] = 0;
  }

  #sum() {
    const { store, upwards } = this, { parent, status, start, end, down, spanFrom, spanTo, totals, children } = store;
    down.fill(0);
    spanFrom.fill(Infinity);
    spanTo.fill(-Infinity);
    totals.fill(0);
    store.to = -Infinity;
    for (let at = 0; at < upwards.length; at++) {
      const n = upwards[at], from = Number.isNaN(start[n]) ? end[n] : start[n];
      if (from < spanFrom[n]) spanFrom[n] = from;
      if (from > spanTo[n]) spanTo[n] = from;
      if (end[n] > spanTo[n]) spanTo[n] = end[n];
      if (spanTo[n] > store.to) store.to = spanTo[n];
      totals[status[n]]++;
      const up = parent[n];
      if (up < 0) continue;
      const here = n * WIDTH, there = up * WIDTH;
      if (children[n]) for (let s = 0; s < WIDTH; s++) down[there + s] += down[here + s];
      down[there + status[n]]++;
      if (spanFrom[n] < spanFrom[up]) spanFrom[up] = spanFrom[n];
      if (spanTo[n] > spanTo[up]) spanTo[up] = spanTo[n];
    }
  }

  /** When something changed next, seen from this moment; itself where nothing did. @param {1 | -1} way */
  change(way) {
    let at = way > 0 ? this.been : this.been - 1;
    while (way < 0 && at >= 0 && this.times[at] >= this.at) at--;
    return this.times[at] ?? (way > 0 ? this.end : this.begin);
  }

  /** The present again, in the store that is shown. */
  leave() {
    const { store, live } = this, epoch = Math.max(store.epoch, live.epoch) + 1;
    Object.assign(store, live, { epoch, past: false });
  }
}
