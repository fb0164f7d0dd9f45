// @ts-check
/** Which rows there are, in which order: folds, filter, failures. No DOM. */
import { FAILED, RUNNING } from "./store.js";

/** Up to here a tree is shown whole. The server draws its first rows by the same number (instances/outline.py). */
export const SMALL = 200;

export class Order {
  /** @param {import("./store.js").Store} store */
  constructor(store) {
    this.store = store;
    this.open = new Uint8Array(0);
    /** What the user folded or opened; stands over what is the rule. @type {Map<number, boolean>} */
    this.chosen = new Map();
    this.length = 0;
    this.rows = new Int32Array(0);
    this.level = new Uint16Array(0);
    this.posinset = new Int32Array(0);
    /** Where a row stands, -1 where it is folded away. */
    this.position = new Int32Array(0);
    /** @type {Uint8Array | null} */ this.kept = null;
    this.query = "";
    /** @type {number | null} */ this.wanted = null;
    this.found = 0;
    this.dirty = true;
  }

  /** After a fresh snapshot: the rule, then what the user chose. */
  reset() {
    this.open = new Uint8Array(this.store.capacity);
    const whole = this.store.total <= SMALL;
    for (let n = 0; n < this.store.size; n++) this.open[n] = whole && this.store.children[n] ? 1 : 0;
    if (this.store.root >= 0) this.open[this.store.root] = 1;
    for (const [n, open] of this.chosen) if (n < this.open.length) this.open[n] = open ? 1 : 0;
    this.dirty = true;
  }

  /**
   * These got or lost children, -1 being the tops.
   * @param {Set<number>} parents
   */
  reshaped(parents) {
    if (this.open.length < this.store.capacity) {
      const wider = new Uint8Array(this.store.capacity);
      wider.set(this.open);
      this.open = wider;
    }
    const { root, children } = this.store;
    const small = this.store.total <= SMALL;
    for (const n of parents) {
      if (n < 0) {
        this.dirty = true;
        if (root >= 0 && !this.chosen.has(root)) this.open[root] = 1;
        continue;
      }
      if (small && children[n] && !this.chosen.has(n)) this.open[n] = 1;
      if (this.kept || (this.open[n] && this.at(n) >= 0)) this.dirty = true;
    }
  }

  /** @param {number} n */
  at(n) {
    return n >= 0 && n < this.position.length ? this.position[n] : -1;
  }

  /** @param {number} n */
  isOpen(n) {
    return this.kept ? this.store.children[n] > 0 : this.open[n] === 1 && this.store.children[n] > 0;
  }

  /** @param {number} n @param {boolean} open */
  set(n, open) {
    this.open[n] = open ? 1 : 0;
    this.chosen.set(n, open);
    this.dirty = true;
  }

  /** All at and below `n`. @param {number} n @param {boolean} open */
  setBelow(n, open) {
    for (const at of this.walk(n)) if (this.store.children[at]) this.set(at, open);
  }

  /** Down to this level (the root is level 1), -1 for all. @param {number} level */
  foldTo(level) {
    const { tops, first, next, children } = this.store;
    /** @type {[number, number][]} */ const todo = tops.map((n) => [n, 1]);
    for (let one = todo.pop(); one; one = todo.pop()) {
      const [n, depth] = one;
      if (children[n]) this.set(n, depth < level);
      for (let c = first[n]; c >= 0; c = next[c]) todo.push([c, depth + 1]);
    }
  }

  /** Opens all above `n`, so that it has a row. @param {number} n */
  reveal(n) {
    for (const up of this.store.path(n).slice(0, -1)) if (!this.open[up]) this.set(up, true);
    if (this.kept && !this.kept[n]) this.filter("", null);
  }

  /** `n` and all below, in pre-order. @param {number} n */
  *walk(n) {
    const { first, next, parent } = this.store;
    for (let at = n; at >= 0; ) {
      yield at;
      if (first[at] >= 0) {
        at = first[at];
        continue;
      }
      while (at !== n && next[at] < 0) at = parent[at];
      if (at === n) return;
      at = next[at];
    }
  }

  /**
   * Keeps what matches and all above it.
   * @param {string} query in names and ids @param {number | null} status
   */
  filter(query, status) {
    this.query = query.trim().toLowerCase();
    this.wanted = status;
    this.dirty = true;
  }

  #sift() {
    const { size, ids, names, status, parent, known } = this.store;
    if (!this.query && this.wanted === null) {
      this.kept = null;
      return;
    }
    const kept = new Uint8Array(this.store.capacity);
    this.found = 0;
    for (let n = 0; n < size; n++) {
      if (!known[n] || (this.wanted !== null && status[n] !== this.wanted)) continue;
      if (this.query && !(names[n] ?? "").toLowerCase().includes(this.query) && !(ids[n] ?? "").toLowerCase().includes(this.query)) continue;
      this.found++;
      for (let up = parent[n]; up >= 0 && !kept[up]; up = parent[up]) kept[up] = 1;
      kept[n] = 2;
    }
    this.kept = kept;
  }

  /** Does this row itself match the filter? @param {number} n */
  matches(n) {
    return this.kept !== null && this.kept[n] === 2;
  }

  /** The flat list anew, where anything asked for it. Iterative: chains may be a thousand deep. */
  rebuild() {
    if (!this.dirty) return false;
    this.dirty = false;
    this.#sift();
    const { store, kept, open } = this;
    const { tops, first, next, parent, children } = store;
    if (this.rows.length < store.size) {
      this.rows = new Int32Array(store.capacity);
      this.level = new Uint16Array(store.capacity);
      this.posinset = new Int32Array(store.capacity);
      this.position = new Int32Array(store.capacity);
    }
    const { rows, level, posinset, position } = this;
    position.fill(-1);
    let count = 0;
    const show = (/** @type {number} */ top, /** @type {number} */ from, /** @type {number} */ place) => {
      let depth = from;
      /** @type {number[]} */ const places = [];
      for (let at = top; ; ) {
        const visible = !kept || kept[at];
        if (visible) {
          position[at] = count;
          rows[count] = at;
          level[count] = depth;
          posinset[count++] = place;
        }
        if (visible && children[at] && (kept ? true : open[at])) {
          places.push(place);
          at = first[at];
          place = 1;
          depth++;
          continue;
        }
        while (at !== top && next[at] < 0) {
          at = parent[at];
          place = /** @type {number} */ (places.pop());
          depth--;
        }
        if (at === top) return;
        at = next[at];
        place++;
      }
    };
    let loose = 0;
    for (const top of tops) top === store.root ? show(top, 1, 1) : show(top, 2, ++loose);
    this.length = count;
    return true;
  }

  /** How many siblings a row has, itself included. @param {number} n */
  setsize(n) {
    const up = this.store.parent[n];
    if (up >= 0) return this.store.children[up];
    return n === this.store.root ? 1 : this.store.tops.length - (this.store.root >= 0 ? 1 : 0);
  }

  /**
   * The next failure in tree order, through folded branches; after the last comes the first.
   * @param {number} from an `n`, or -1 @param {1 | -1} way
   */
  nextFailure(from, way) {
    const { store } = this;
    if (!store.totals[FAILED]) return -1;
    const failing = (/** @type {number} */ n) => store.status[n] === FAILED || store.below(n)[FAILED] > 0;
    const siblings = (/** @type {number} */ n) => {
      const up = store.parent[n];
      return up < 0 ? store.tops : [...this.#children(up)];
    };
    const down = (/** @type {number} */ n) => {
      for (let at = n; ; ) {
        if (way > 0 && store.status[at] === FAILED) return at;
        const inside = [...this.#children(at)].filter(failing);
        if (!inside.length) return at;
        at = way > 0 ? inside[0] : inside[inside.length - 1];
      }
    };
    if (from >= 0 && way > 0 && store.below(from)[FAILED] > 0) return down([...this.#children(from)].filter(failing)[0]);
    for (let at = from; at >= 0; at = store.parent[at]) {
      const all = siblings(at), here = all.indexOf(at);
      const rest = way > 0 ? all.slice(here + 1) : all.slice(0, here).reverse();
      const hit = rest.find(failing);
      if (hit !== undefined) return down(hit);
      const up = store.parent[at];
      if (way < 0 && up >= 0 && store.status[up] === FAILED) return up;
    }
    const tops = way > 0 ? store.tops : [...store.tops].reverse();
    return down(/** @type {number} */ (tops.find(failing)));
  }

  /** Which failure of all this is, from 1. @param {number} n */
  failureNumber(n) {
    const { store } = this;
    let number = 1;
    const whole = (/** @type {number} */ at) => store.below(at)[FAILED] + (store.status[at] === FAILED ? 1 : 0);
    for (let at = n; at >= 0; at = store.parent[at]) {
      const up = store.parent[at];
      for (const c of up < 0 ? store.tops : this.#children(up)) {
        if (c === at) break;
        number += whole(c);
      }
      if (up >= 0 && store.status[up] === FAILED) number++;
    }
    return number;
  }

  /** The newest running task, -1 with none. */
  newestRunning() {
    const { store } = this;
    if (store.newest >= 0 && store.status[store.newest] === RUNNING) return store.newest;
    let best = -1;
    for (let n = 0; n < store.size; n++) {
      if (store.status[n] === RUNNING && store.start[n] >= 0 && (best < 0 || store.start[n] >= store.start[best])) best = n;
    }
    return best;
  }

  /** @param {number} n */
  *#children(n) {
    for (let c = this.store.first[n]; c >= 0; c = this.store.next[c]) yield c;
  }
}

