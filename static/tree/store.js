// @ts-check
/** The tree as columns, one slot per `n`. No DOM: what arrives is applied here at once, drawn elsewhere. */

export const STATUSES = ["PENDING", "RUNNING", "SUCCESS", "FAILED", "CANCELLED", "SKIPPED"];
export const KINDS = ["AGENT", "GROUP_AGG", "SINGLE_AGG", "EXECUTION"];
export const ACTIONS = ["RUN", "PAUSE", "CANCEL"];
export const [PENDING, RUNNING, SUCCESS, FAILED, CANCELLED, SKIPPED] = STATUSES.keys();
export const [RUN, PAUSE, CANCEL] = ACTIONS.keys();
const GROUP_AGG = 1, SINGLE_AGG = 2;
/** Bits of the column `over`. */
export const HOLDS = 1, DIFFERS = 2, UNATTACHED = 4, PLACEHOLDER = 8, HEARD = 16;

/**
 * One row as it crosses the wire; a column that is left out keeps its value.
 * @typedef {{n: number, id?: string, parent?: number, name?: string, kind?: number, status?: number,
 *   progress?: number | null, start?: number | null, end?: number | null, attempt?: number,
 *   split?: number, over?: number}} Row
 * @typedef {[place: number, action: number, number: number]} Intent place is an `n`, or -1 for the whole tree
 */

/** @param {number} kind */
export const isAggregator = (kind) => kind === GROUP_AGG || kind === SINGLE_AGG;

/** @param {number} status */
export const isOpen = (status) => status === PENDING || status === RUNNING;

const WIDTH = STATUSES.length;

export class Store {
  constructor() {
    /** Is this the run as it was once (past.js)? */
    this.past = false;
    this.clear();
  }

  clear() {
    this.size = 0;
    this.seq = -1;
    this.capacity = 0;
    /** Raised where every drawn row may look different: an intent, a move in the tree. */
    this.epoch = 0;
    /** Raised with each change of who hangs where. */
    this.shape = 0;
    this.root = -1;
    /** The task that began to run last. */
    this.newest = -1;
    /** @type {(string | undefined)[]} */ this.ids = [];
    /** @type {string[]} */ this.names = [];
    /** @type {Map<number, {action: number, number: number}>} */ this.intents = new Map();
    /** Earliest start, latest end of all. */
    this.from = Infinity;
    this.to = -Infinity;
    this.totals = new Int32Array(WIDTH);
    this.plannedRest = 0;
    /** @type {Map<string, number> | null} */ this.byId = null;
    /** Without a parent: the root first, then what is unattached. @type {number[]} */
    this.tops = [];
    this.grow(256);
  }

  /** @param {number} least */
  grow(least) {
    const room = Math.max(256, 2 ** Math.ceil(Math.log2(least)));
    const wider = (/** @type {any} */ old, /** @type {any} */ Type, empty = 0, per = 1) => {
      const made = new Type(room * per);
      const kept = this.capacity * per;
      if (kept) made.set(old);
      if (empty) made.fill(empty, kept);
      return made;
    };
    /** @type {Int32Array} */ this.parent = wider(this.parent, Int32Array, -1);
    /** @type {Int32Array} */ this.first = wider(this.first, Int32Array, -1);
    /** @type {Int32Array} */ this.last = wider(this.last, Int32Array, -1);
    /** @type {Int32Array} */ this.next = wider(this.next, Int32Array, -1);
    /** @type {Int32Array} */ this.children = wider(this.children, Int32Array);
    /** Children that are no GROUP_AGG: those that a plan counts. @type {Int32Array} */
    this.kids = wider(this.kids, Int32Array);
    /** @type {Uint8Array} */ this.known = wider(this.known, Uint8Array);
    /** @type {Uint8Array} */ this.kind = wider(this.kind, Uint8Array);
    /** @type {Uint8Array} */ this.status = wider(this.status, Uint8Array);
    /** @type {Uint8Array} */ this.over = wider(this.over, Uint8Array);
    /** @type {Uint16Array} */ this.attempt = wider(this.attempt, Uint16Array);
    /** @type {Int32Array} */ this.split = wider(this.split, Int32Array);
    /** @type {Float32Array} */ this.progress = wider(this.progress, Float32Array, NaN);
    /** @type {Float64Array} */ this.start = wider(this.start, Float64Array, NaN);
    /** @type {Float64Array} */ this.end = wider(this.end, Float64Array, NaN);
    /** Earliest start and latest end at or below. @type {Float64Array} */
    this.spanFrom = wider(this.spanFrom, Float64Array, Infinity);
    /** @type {Float64Array} */ this.spanTo = wider(this.spanTo, Float64Array, -Infinity);
    /** Descendants per status, side by side. @type {Int32Array} */
    this.down = wider(this.down, Int32Array, 0, WIDTH);
    /** At and below: planned children that did not come, actors at work, actors that hold. @type {Int32Array} */
    this.rest = wider(this.rest, Int32Array);
    /** @type {Int32Array} */ this.acting = wider(this.acting, Int32Array);
    /** @type {Int32Array} */ this.holding = wider(this.holding, Int32Array);
    /** Raised with each visible change of a row: what a painter compares. @type {Uint32Array} */
    this.stamp = wider(this.stamp, Uint32Array);
    this.capacity = room;
  }

  /**
   * Everything anew. Rows may come in any order of `n`, parents after children.
   * @param {Iterable<Row>} rows @param {Intent[]} intents @param {number} seq
   */
  load(rows, intents, seq) {
    this.clear();
    for (const row of rows) {
      this.#make(row);
      this.parent[row.n] = row.parent ?? -1;
      if (row.parent !== undefined) this.#reserve(row.parent);
    }
    /** @type {number[]} */ const tops = [];
    const waiting = new Int32Array(this.size);
    // From the last to the first, each in front of its younger siblings: lists in order of `n` without sorting.
    for (let n = this.size - 1; n >= 0; n--) {
      if (!this.known[n]) continue;
      const up = this.parent[n];
      if (up < 0) tops.push(n);
      else {
        this.next[n] = this.first[up];
        this.first[up] = n;
        if (this.last[up] < 0) this.last[up] = n;
        this.children[up]++;
        if (this.kind[n] !== GROUP_AGG) this.kids[up]++;
        waiting[up]++;
      }
    }
    this.tops = tops.reverse();
    this.#findRoot();
    this.#rollUp(waiting);
    this.shape++;
    this.setIntents(intents);
    this.seq = seq;
  }

  /** @param {Int32Array} waiting children that have not been added up yet */
  #rollUp(waiting) {
    const ready = [];
    for (let n = 0; n < this.size; n++) if (this.known[n] && !waiting[n]) ready.push(n);
    while (ready.length) {
      const n = /** @type {number} */ (ready.pop());
      this.#addOwn(n);
      const up = this.parent[n];
      if (up < 0) continue;
      for (let s = 0; s < WIDTH; s++) this.down[up * WIDTH + s] += this.down[n * WIDTH + s];
      this.down[up * WIDTH + this.status[n]]++;
      this.rest[up] += this.rest[n];
      this.acting[up] += this.acting[n];
      this.holding[up] += this.holding[n];
      if (this.spanFrom[n] < this.spanFrom[up]) this.spanFrom[up] = this.spanFrom[n];
      if (this.spanTo[n] > this.spanTo[up]) this.spanTo[up] = this.spanTo[n];
      if (!--waiting[up] && this.known[up]) ready.push(up);
    }
    this.plannedRest = this.tops.reduce((sum, n) => sum + this.rest[n], 0);
  }

  /** @param {number} n */
  #addOwn(n) {
    this.rest[n] += this.#ownRest(n);
    this.acting[n] += this.#ownActing(n);
    this.holding[n] += this.#ownHolding(n);
    this.totals[this.status[n]]++;
    this.#widen(n);
  }

  /** @param {number} n */
  #ownRest(n) {
    return isOpen(this.status[n]) ? Math.max(0, this.split[n] - this.kids[n]) : 0;
  }

  /** @param {number} n */
  #ownActing(n) {
    return this.isActing(n) ? 1 : 0;
  }

  /** Runs, and its actor says so: it can hold. What only its children keep running cannot. @param {number} n */
  isActing(n) {
    return this.status[n] === RUNNING && (this.over[n] & (HEARD | DIFFERS)) === HEARD;
  }

  /** @param {number} n */
  #ownHolding(n) {
    return this.#ownActing(n) && this.over[n] & HOLDS ? 1 : 0;
  }

  /** @param {number} n */
  #widen(n) {
    // One that ended without having begun, as far as is known, was there at its end.
    const to = this.end[n], from = Number.isNaN(this.start[n]) ? to : this.start[n];
    if (from < this.spanFrom[n]) this.spanFrom[n] = from;
    if (from > this.spanTo[n]) this.spanTo[n] = from;
    if (to > this.spanTo[n]) this.spanTo[n] = to;
    if (from < this.from) this.from = from;
    if (this.spanTo[n] > this.to) this.to = this.spanTo[n];
  }

  /** @param {number} n */
  #reserve(n) {
    if (n >= this.capacity) this.grow(n + 1);
    if (n >= this.size) this.size = n + 1;
  }

  /** @param {Row} row */
  #make(row) {
    const n = row.n;
    this.#reserve(n);
    this.known[n] = 1;
    this.attempt[n] = 1;
    this.#write(row);
    // Not made anew: with 100,000 tasks that would take a frame, for each task that comes.
    if (row.id !== undefined) this.byId?.set(row.id, n);
  }

  /** @param {Row} row */
  #write(row) {
    const n = row.n;
    if (row.id !== undefined) this.ids[n] = row.id;
    if (row.name !== undefined) this.names[n] = row.name;
    if (row.kind !== undefined) this.kind[n] = row.kind;
    if (row.status !== undefined) this.status[n] = row.status;
    if (row.progress !== undefined) this.progress[n] = row.progress ?? NaN;
    if (row.start !== undefined) this.start[n] = row.start ?? NaN;
    if (row.end !== undefined) this.end[n] = row.end ?? NaN;
    if (row.attempt !== undefined) this.attempt[n] = row.attempt;
    if (row.split !== undefined) this.split[n] = row.split;
    if (row.over !== undefined) this.over[n] = row.over;
    this.stamp[n]++;
  }

  /**
   * What changed since; repeats do no harm. Answers the nodes whose list of children changed.
   * @param {Row[]} rows @param {number} seq
   */
  apply(rows, seq) {
    /** Where the new and the moved ones go. @type {Map<number, number>} */
    const goes = new Map();
    /** @type {Set<number>} */ const reshaped = new Set();
    for (const row of rows) {
      const n = row.n;
      if (n >= this.size || !this.known[n]) {
        this.#make(row);
        this.#addOwn(n);
        this.plannedRest += this.#ownRest(n);
        goes.set(n, row.parent ?? -1);
      } else if (goes.has(n)) {
        if (row.parent !== undefined) goes.set(n, row.parent);
      } else if (row.parent !== undefined && row.parent !== this.parent[n]) {
        // All are taken out before any is put back: in between, two that change places would be each other's parent.
        reshaped.add(this.parent[n]);
        this.#detach(n);
        goes.set(n, row.parent);
      }
    }
    for (const row of rows) this.#change(row);
    for (const [n, up] of goes) {
      if (up >= 0) this.#attach(n, up);
      reshaped.add(up);
    }
    if (goes.size) {
      if (reshaped.has(-1)) this.#listTops([...goes.keys()]);
      this.#findRoot();
      this.shape++;
    }
    if (seq > this.seq) this.seq = seq;
    return reshaped;
  }

  /** @param {number[]} moved */
  #listTops(moved) {
    const tops = new Set([...this.tops, ...moved].filter((n) => this.parent[n] < 0));
    this.tops = [...tops].sort((a, b) => a - b);
  }

  /** @param {Row} row */
  #change(row) {
    const n = row.n;
    const status = this.status[n], rest = this.#ownRest(n), acting = this.#ownActing(n), holding = this.#ownHolding(n);
    const wasGroup = this.kind[n] === GROUP_AGG;
    this.#write(row);
    const up = this.parent[n];
    if (up >= 0 && wasGroup !== (this.kind[n] === GROUP_AGG)) this.#countKid(up, wasGroup ? 1 : -1);
    const now = this.status[n];
    if (status !== now) {
      this.totals[status]--;
      this.totals[now]++;
      if (now === RUNNING) this.newest = n;
    }
    this.#widen(n);
    this.#lift(n, status, now, this.#ownRest(n) - rest, this.#ownActing(n) - acting, this.#ownHolding(n) - holding);
  }

  /**
   * Tell all above what changed at `n`.
   * @param {number} n @param {number} was @param {number} now
   * @param {number} rest @param {number} acting @param {number} holding
   */
  #lift(n, was, now, rest, acting, holding) {
    this.rest[n] += rest;
    this.acting[n] += acting;
    this.holding[n] += holding;
    this.plannedRest += rest;
    const from = this.spanFrom[n], to = this.spanTo[n];
    for (let up = this.parent[n]; up >= 0; up = this.parent[up]) {
      let changed = rest || acting || holding;
      if (was !== now) {
        this.down[up * WIDTH + was]--;
        this.down[up * WIDTH + now]++;
        changed = 1;
      }
      this.rest[up] += rest;
      this.acting[up] += acting;
      this.holding[up] += holding;
      if (from < this.spanFrom[up]) this.spanFrom[up] = from, changed = 1;
      if (to > this.spanTo[up]) this.spanTo[up] = to, changed = 1;
      if (!changed) return;
      this.stamp[up]++;
    }
  }

  /** @param {number} up @param {number} by */
  #countKid(up, by) {
    const rest = this.#ownRest(up);
    this.kids[up] += by;
    this.#lift(up, 0, 0, this.#ownRest(up) - rest, 0, 0);
    this.stamp[up]++;
  }

  /** @param {number} n @param {number} up @param {1 | -1} sign */
  #carry(n, up, sign) {
    const at = n * WIDTH;
    for (let a = up; a >= 0; a = this.parent[a]) {
      for (let s = 0; s < WIDTH; s++) this.down[a * WIDTH + s] += sign * this.down[at + s];
      this.down[a * WIDTH + this.status[n]] += sign;
      this.rest[a] += sign * this.rest[n];
      this.acting[a] += sign * this.acting[n];
      this.holding[a] += sign * this.holding[n];
      if (sign > 0 && this.spanFrom[n] < this.spanFrom[a]) this.spanFrom[a] = this.spanFrom[n];
      if (sign > 0 && this.spanTo[n] > this.spanTo[a]) this.spanTo[a] = this.spanTo[n];
      this.stamp[a]++;
    }
  }

  /** @param {number} n */
  #detach(n) {
    const up = this.parent[n];
    if (up < 0) return;
    let before = -1;
    for (let c = this.first[up]; c !== n; c = this.next[c]) before = c;
    if (before < 0) this.first[up] = this.next[n];
    else this.next[before] = this.next[n];
    if (this.last[up] === n) this.last[up] = before;
    this.next[n] = -1;
    this.children[up]--;
    this.#carry(n, up, -1);
    if (this.kind[n] !== GROUP_AGG) this.#countKid(up, -1);
    this.parent[n] = -1;
    this.epoch++;
  }

  /** Among its siblings in order of `n`. @param {number} n @param {number} up */
  #attach(n, up) {
    this.#reserve(up);
    this.parent[n] = up;
    if (this.last[up] < 0 || this.last[up] < n) {
      if (this.last[up] >= 0) this.next[this.last[up]] = n;
      else this.first[up] = n;
      this.last[up] = n;
    } else {
      let before = -1;
      for (let c = this.first[up]; c >= 0 && c < n; c = this.next[c]) before = c;
      this.next[n] = before < 0 ? this.first[up] : this.next[before];
      if (before < 0) this.first[up] = n;
      else this.next[before] = n;
    }
    this.children[up]++;
    this.#carry(n, up, 1);
    if (this.kind[n] !== GROUP_AGG) this.#countKid(up, 1);
  }

  #findRoot() {
    this.root = this.tops.find((n) => !(this.over[n] & UNATTACHED)) ?? -1;
    // Listed after the root's tree (contract, section 3.7).
    if (this.root >= 0 && this.tops[0] !== this.root) this.tops = [this.root, ...this.tops.filter((n) => n !== this.root)];
  }

  /** The whole list of intents in force. @param {Intent[]} intents */
  setIntents(intents) {
    this.intents = new Map(intents.map(([place, action, number]) => [place, { action, number }]));
    this.epoch++;
  }

  /** The strongest command on the way from the root. @param {number} n */
  asked(n) {
    if (!this.intents.size) return RUN;
    let strongest = this.intents.get(-1)?.action ?? RUN;
    for (let at = n; at >= 0; at = this.parent[at]) {
      const here = this.intents.get(at);
      if (here && here.action > strongest) strongest = here.action;
    }
    return strongest;
  }

  /** The place nearest above `n` (or `n`, or -1 for the whole tree) where this action was put; null with none. @param {number} n @param {number} action */
  askedAt(n, action) {
    for (let at = n; at >= 0; at = this.parent[at]) if (this.intents.get(at)?.action === action) return at;
    return this.intents.get(-1)?.action === action ? -1 : null;
  }

  /** At one place itself, -1 for the whole tree. @param {number} place */
  askedHere(place) {
    return this.intents.get(place)?.action ?? RUN;
  }

  /** Descendants per status. @param {number} n */
  below(n) {
    return this.down.subarray(n * WIDTH, (n + 1) * WIDTH);
  }

  /** Tasks at and below that have not ended; -1: of the whole tree. @param {number} n */
  stillOpen(n) {
    if (n < 0) return this.totals[PENDING] + this.totals[RUNNING];
    return this.down[n * WIDTH] + this.down[n * WIDTH + RUNNING] + (isOpen(this.status[n]) ? 1 : 0);
  }

  /** How many at and below are at work, and how many of them hold; -1: of the whole tree. @param {number} n */
  obeying(n) {
    if (n >= 0) return { acting: this.acting[n], holding: this.holding[n] };
    let acting = 0, holding = 0;
    for (const top of this.tops) acting += this.acting[top], holding += this.holding[top];
    return { acting, holding };
  }

  get total() {
    return this.totals.reduce((sum, n) => sum + n, 0);
  }

  /** @param {number} n */
  name(n) {
    return this.names[n] || this.ids[n] || "";
  }

  /** @param {string} id */
  find(id) {
    if (!this.byId) {
      this.byId = new Map();
      for (let n = 0; n < this.size; n++) if (this.ids[n] !== undefined) this.byId.set(/** @type {string} */ (this.ids[n]), n);
    }
    return this.byId.get(id) ?? -1;
  }

  /** From the top down to `n` itself. @param {number} n */
  path(n) {
    const way = [];
    for (let at = n; at >= 0; at = this.parent[at]) way.push(at);
    return way.reverse();
  }
}
