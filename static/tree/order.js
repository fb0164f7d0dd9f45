// @ts-check
/** Which rows there are, in which order: folds, filter, failures. No DOM. */
import { Causes } from "./causes.js";
import { Flat } from "./flat.js";
import { FIRST_GROUP, Groups } from "./groups.js";
import { parse } from "./search.js";
import { FAILED, HOLDS, PAUSE, RUN, RUNNING } from "./store.js";

/** Up to here a tree is shown whole. The server draws its first rows by the same number (instances/outline.py). */
export const SMALL = 200;

/** What keys go to through folds. @type {Record<string, (store: import("./store.js").Store, n: number) => boolean>} */
const KINDS = {
  failed: (store, n) => store.status[n] === FAILED,
  running: (store, n) => store.status[n] === RUNNING,
  /** At work, though something else was asked. */
  stuck: (store, n) => {
    if (!store.isActing(n)) return false;
    const asked = store.asked(n);
    return asked !== RUN && !(asked === PAUSE && store.over[n] & HOLDS);
  },
};

/** @typedef {"tree" | "flat" | "failures"} View */

/** A row is a task by its `n`, or a group (groups.js) by its number. */
export class Order {
  /** @param {import("./store.js").Store} store */
  constructor(store) {
    this.store = store;
    /** @type {View} */ this.view = "tree";
    this.groups = new Groups(store);
    this.flat = new Flat(store);
    this.causes = new Causes(store);
    this.open = new Uint8Array(0);
    /** What the user folded or opened; stands over what is the rule. Groups by "parent/name". @type {Map<number | string, boolean>} */
    this.chosen = new Map();
    this.length = 0;
    this.rows = new Int32Array(0);
    this.level = new Uint16Array(0);
    this.posinset = new Int32Array(0);
    /** Where a row stands, -1 where it is folded away. */
    this.position = new Int32Array(0);
    /** @type {Uint8Array | null} */ this.kept = null;
    /** @type {import("./search.js").Query} */ this.query = parse("");
    /** What the tower found for the words that only it knows; null where it was not asked. @type {Set<number> | null} */
    this.answer = null;
    /** @type {number | null} */ this.wanted = null;
    /** Only these tasks and what is above them, besides what is searched for. @type {{has: (n: number) => boolean} | null} */
    this.only = null;
    this.found = 0;
    this.dirty = true;
    /** Raised with each new list of rows. */
    this.built = 0;
  }

  /** After a fresh snapshot: the rule, then what the user chose. */
  reset() {
    this.open = new Uint8Array(this.store.capacity);
    this.groups.reset();
    this.flat.reset();
    this.causes.reset();
    for (let n = 0; n < this.store.size; n++) this.open[n] = this.rule(n) ? 1 : 0;
    for (const group of this.groups.list) group.open = false;
    for (const [key, open] of this.chosen) this.#put(key, open);
    this.dirty = true;
  }

  /** Another view of the same. @param {View} view */
  look(view) {
    this.view = view;
    this.causes.arrange();
    this.dirty = true;
  }

  /** What stands as a group in this view. @returns {Groups | Causes} */
  get grouping() {
    return this.view === "failures" ? this.causes : this.groups;
  }

  /** Is this task open by itself? @param {number} n */
  rule(n) {
    return n === this.store.root || (this.store.children[n] > 0 && this.store.total <= SMALL);
  }

  /** @param {number | string} key @param {boolean} open */
  #put(key, open) {
    if (typeof key === "number") {
      if (key < this.open.length) this.open[key] = open ? 1 : 0;
      return;
    }
    const cut = key.indexOf("/"), g = this.groups.under.get(Number(key.slice(0, cut)))?.get(key.slice(cut + 1));
    if (g !== undefined) this.groups.list[g].open = open;
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
      const shown = this.open[n] === 1 && this.at(n) >= 0;
      for (const g of this.groups.refresh(n)) {
        // What is looked at does not fold under the eye.
        const chosen = this.chosen.get(this.key(FIRST_GROUP + g));
        this.groups.list[g].open = chosen ?? shown;
      }
      if (small && children[n] && !this.chosen.has(n)) this.open[n] = 1;
      if (this.view === "tree" && (this.kept || (this.open[n] && this.at(n) >= 0))) this.dirty = true;
    }
  }

  /** The group of a row, null for a task. @param {number} row */
  group(row) {
    return row >= FIRST_GROUP ? this.grouping.list[row - FIRST_GROUP] : null;
  }

  /** By what its fold is kept. @param {number} row @returns {number | string} */
  key(row) {
    const group = this.group(row);
    return group ? `${group.parent}/${group.name}` : row;
  }

  /** @param {number} row */
  at(row) {
    if (row >= FIRST_GROUP) return this.grouping.list[row - FIRST_GROUP]?.at ?? -1;
    return row >= 0 && row < this.position.length ? this.position[row] : -1;
  }

  /** The row that a row hangs below, -1 for a top. @param {number} row */
  up(row) {
    if (row >= FIRST_GROUP) return this.grouping.list[row - FIRST_GROUP]?.parent ?? -1;
    if (this.view === "flat") return -1;
    const g = this.kept && this.view === "tree" ? -1 : this.grouping.of(row);
    return g >= 0 ? FIRST_GROUP + g : this.view === "tree" ? this.store.parent[row] : -1;
  }

  /** @param {number} row */
  folds(row) {
    return row >= FIRST_GROUP || (this.view === "tree" && this.store.children[row] > 0);
  }

  /** @param {number} row */
  isOpen(row) {
    if (row >= FIRST_GROUP) return this.grouping.list[row - FIRST_GROUP].open;
    if (this.view !== "tree") return false;
    return this.kept ? this.store.children[row] > 0 : this.open[row] === 1 && this.store.children[row] > 0;
  }

  /** @param {number} row @param {boolean} open */
  set(row, open) {
    this.dirty = true;
    const group = this.view === "failures" ? this.group(row) : null;
    if (group) {
      group.open = open;
      return;
    }
    this.#put(this.key(row), open);
    this.chosen.set(this.key(row), open);
  }

  /**
   * Opens the tasks above a row without anybody having chosen it; of one that an address names also groups.
   * @param {number} row @param {boolean} named @param {boolean} itself
   */
  lead(row, named, itself) {
    if (itself && !this.chosen.has(row)) this.#put(row, true);
    for (let up = this.up(row); up >= 0; up = this.up(up)) if (named || !this.group(up)) this.#put(this.key(up), true);
    this.dirty = true;
  }

  /** All at and below a row. @param {number} row @param {boolean} open */
  setBelow(row, open) {
    const group = this.group(row);
    if (group) this.set(row, open);
    if (this.view !== "tree") return;
    for (const top of group ? group.members : [row]) {
      for (const at of this.walk(top)) {
        if (!this.store.children[at]) continue;
        this.set(at, open);
        for (const g of this.groups.under.get(at)?.values() ?? []) this.set(FIRST_GROUP + g, open);
      }
    }
  }

  /** Down to this level (the root is level 1). @param {number} level */
  foldTo(level) {
    if (this.view !== "tree") {
      for (const g of this.view === "failures" ? this.causes.shown : []) this.set(FIRST_GROUP + g, level > 1);
      return;
    }
    const { tops, first, next, children } = this.store;
    /** @type {[number, number][]} */ const todo = tops.map((n) => [n, 1]);
    for (let one = todo.pop(); one; one = todo.pop()) {
      const [n, depth] = one;
      if (children[n]) this.set(n, depth < level);
      for (const g of this.groups.under.get(n)?.values() ?? []) this.set(FIRST_GROUP + g, depth + 1 < level);
      for (let c = first[n]; c >= 0; c = next[c]) todo.push([c, depth + (this.groups.of(c) >= 0 ? 2 : 1)]);
    }
  }

  /** Opens all above a row, so that it is one. @param {number} row */
  reveal(row) {
    if (this.kept && !this.kept[row]) {
      this.filter("", null);
      this.only = null;
    }
    if (this.kept) return;
    for (let up = this.up(row); up >= 0; up = this.up(up)) if (!this.isOpen(up)) this.set(up, true);
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
   * @param {string} text as typed @param {number | null} status
   */
  filter(text, status) {
    this.query = parse(text);
    this.answer = null;
    this.wanted = status;
    this.dirty = true;
  }

  /** By words or by status. */
  get searching() {
    return !this.query.empty || this.wanted !== null;
  }

  #sift() {
    const { size, ids, names, status, parent, known } = this.store;
    const { plain, id, asks } = this.query, wanted = this.wanted ?? this.query.status, { only, searching } = this;
    if (!searching && !only) {
      this.kept = null;
      return;
    }
    const kept = new Uint8Array(this.store.capacity);
    this.found = 0;
    for (let n = 0; n < size; n++) {
      if (!known[n] || (wanted !== null && status[n] !== wanted) || (only && !only.has(n))) continue;
      if (asks && !this.answer?.has(n)) continue;
      if (id && !(ids[n] ?? "").toLowerCase().includes(id)) continue;
      if (plain && !(names[n] ?? "").toLowerCase().includes(plain) && !(ids[n] ?? "").toLowerCase().includes(plain)) continue;
      this.found++;
      for (let up = parent[n]; up >= 0 && !kept[up]; up = parent[up]) kept[up] = 1;
      kept[n] = 2;
    }
    this.kept = kept;
  }

  /** Does this row itself match what is searched for? @param {number} n */
  matches(n) {
    return this.searching && this.kept !== null && this.kept[n] === 2;
  }

  /** Is this task a row of this view, folds aside? @param {number} n */
  belongs(n) {
    if (this.view === "tree") return this.store.ids[n] !== undefined;
    return this.view === "flat" ? this.at(n) >= 0 : this.causes.of(n) >= 0;
  }

  /** The list of rows anew, where anything asked for it. */
  rebuild() {
    if (!this.dirty) return false;
    this.dirty = false;
    this.built++;
    this.#sift();
    const { store, kept, open, grouping, view } = this, { children } = store;
    if (view === "flat") this.flat.sort();
    if (view === "failures") this.causes.collect((n) => !kept || kept[n] === 2);
    const room = store.capacity + grouping.list.length;
    if (this.rows.length < room) {
      this.rows = new Int32Array(room);
      this.level = new Uint16Array(room);
      this.posinset = new Int32Array(room);
      this.position = new Int32Array(store.capacity);
    }
    const { rows, level, posinset, position } = this;
    position.fill(-1);
    for (const group of grouping.list) group.at = -1;
    let count = 0;
    this.#eachRow((row, depth, place) => {
      const group = row >= FIRST_GROUP ? grouping.list[row - FIRST_GROUP] : null;
      // A filter leaves what is above its matches in the tree, and nothing but them in a list.
      if (kept && !group && (view === "tree" ? !kept[row] : kept[row] !== 2)) return false;
      if (group) group.at = count;
      else position[row] = count;
      rows[count] = row;
      level[count] = depth;
      posinset[count++] = place;
      return group ? group.open : children[row] > 0 && (kept !== null || open[row] === 1);
    });
    this.length = count;
    return true;
  }

  /**
   * Rows in pre-order, a group at the place of its first; a filter knows no groups. Below a row only where `visit` says so.
   * Iterative: chains may be a thousand deep.
   * @param {(row: number, depth: number, place: number) => boolean} visit
   */
  #eachRow(visit) {
    if (this.view === "flat") this.#eachOfList(visit);
    else if (this.view === "failures") this.#eachCause(visit);
    else this.#eachOfTree(visit);
  }

  /** @param {(row: number, depth: number, place: number) => boolean} visit */
  #eachOfList(visit) {
    const { list, length } = this.flat;
    for (let i = 0; i < length; i++) visit(list[i], 1, i + 1);
  }

  /** @param {(row: number, depth: number, place: number) => boolean} visit */
  #eachCause(visit) {
    this.causes.shown.forEach((g, i) => {
      if (visit(FIRST_GROUP + g, 1, i + 1)) this.causes.list[g].members.forEach((n, at) => visit(n, 2, at + 1));
    });
  }

  /** @param {(row: number, depth: number, place: number) => boolean} visit */
  #eachOfTree(visit) {
    const { store, groups } = this, { first, next } = store;
    const grouped = !this.kept && groups.list.length > 0;
    /** @type {number[]} */ const at = [], depths = [], places = [];
    /** @type {(number[] | null)[]} */ const lists = [];
    let last = -1;
    const enter = (/** @type {number} */ row, /** @type {number} */ depth, /** @type {number} */ place) => {
      if (!visit(row, depth, place)) return;
      last++;
      depths[last] = depth + 1;
      places[last] = 0;
      lists[last] = row >= FIRST_GROUP ? groups.list[row - FIRST_GROUP].members : null;
      at[last] = lists[last] ? 0 : first[row];
    };
    const walkBelow = () => {
      while (last >= 0) {
        const list = lists[last], here = at[last];
        if (list ? here >= list.length : here < 0) {
          last--;
          continue;
        }
        const n = list ? list[here] : here;
        at[last] = list ? here + 1 : next[n];
        const g = grouped && !list ? groups.of(n) : -1;
        if (g < 0) enter(n, depths[last], ++places[last]);
        else if (groups.list[g].members[0] === n) enter(FIRST_GROUP + g, depths[last], ++places[last]);
      }
    };
    let loose = 0;
    for (const top of store.tops) {
      top === store.root ? enter(top, 1, 1) : enter(top, 2, ++loose);
      walkBelow();
    }
  }

  /** How many siblings a row has, itself included. @param {number} row */
  setsize(row) {
    const up = this.up(row), group = this.group(up);
    if (this.view === "flat") return this.length;
    if (this.view === "failures" && !group) return this.causes.shown.length;
    if (group) return group.members.length;
    if (up >= 0) return this.kept ? this.store.children[up] : this.groups.rowsBelow(up);
    return row === this.store.root ? 1 : this.store.tops.length - (this.store.root >= 0 ? 1 : 0);
  }

  /** The next row of the same parent; -1 at the end. @param {number} row @param {1 | -1} way */
  sibling(row, way) {
    const from = this.at(row), level = this.level[from];
    for (let at = from + way; at >= 0 && at < this.length && this.level[at] >= level; at += way) {
      if (this.level[at] === level) return this.up(this.rows[at]) === this.up(row) ? this.rows[at] : -1;
    }
    return -1;
  }

  /**
   * The next of a kind in the order of the tree, through folds; after the last comes the first.
   * @param {"failed" | "running" | "stuck"} kind @param {number} from a row, or -1 @param {1 | -1} way
   * @param {number} [inside] only at and below this task
   * @returns {{n: number, number: number, all: number}} `n` is -1 where there is none
   */
  next(kind, from, way, inside = -1) {
    const { store } = this, is = KINDS[kind];
    /** @type {number[]} */ const hits = [];
    // How many stand before `from`, and whether it is one itself.
    let before = 0, itself = 0, within = inside < 0 ? 0 : Infinity;
    this.#eachRow((row, depth) => {
      if (row === inside) within = depth;
      else if (inside >= 0 && depth <= within) within = Infinity;
      const hit = row < FIRST_GROUP && (inside < 0 || within < Infinity) && is(store, row);
      if (row === from) before = hits.length, itself = hit ? 1 : 0;
      if (hit) hits.push(row);
      return true;
    });
    if (!hits.length) return { n: -1, number: 0, all: 0 };
    let at = way > 0 ? (from < 0 ? 0 : before + itself) : from < 0 ? hits.length - 1 : before - 1;
    at = (at + hits.length) % hits.length;
    return { n: hits[at], number: at + 1, all: hits.length };
  }

  /** The first failure at or below a row. @param {number} row */
  firstFailure(row) {
    const group = this.group(row);
    for (const top of group ? group.members : [row]) {
      if (this.store.status[top] !== FAILED && !this.store.below(top)[FAILED]) continue;
      for (const n of this.walk(top)) if (this.store.status[n] === FAILED && (group || n !== row)) return n;
    }
    return -1;
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
}
