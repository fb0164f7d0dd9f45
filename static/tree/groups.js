// @ts-check
/** Siblings of one name: above so many they stand as one row. No DOM. */
import { CANCELLED, FAILED, PENDING, RUNNING, SKIPPED, STATUSES, SUCCESS } from "./store.js";

/** More siblings of one name than this are folded into one row; the server knows the same (instances/outline.py). */
export const MANY = 200;
/** In a list of rows tasks stand as their `n`, groups from here on. */
export const FIRST_GROUP = 2 ** 30;

/**
 * `own` counts the members by status, `counts` them and all below them; `seen` is the stamp that they were summed up at.
 * @typedef {{parent: number, name: string, members: number[], open: boolean, at: number, seen: number, own: Int32Array,
 *   counts: Int32Array, rest: number, from: number, to: number}} Group
 */

export class Groups {
  /** @param {import("./store.js").Store} store */
  constructor(store) {
    this.store = store;
    /** Never shrinks: the row of a group keeps its number. @type {Group[]} */ this.list = [];
    /** The groups below a task by their names. @type {Map<number, Map<string, number>>} */ this.under = new Map();
    this.member = new Int32Array(0);
  }

  /** After a fresh snapshot. */
  reset() {
    this.member = new Int32Array(this.store.capacity).fill(-1);
    for (const group of this.list) group.members = [];
    for (let n = 0; n < this.store.size; n++) if (this.store.children[n] > MANY || this.under.has(n)) this.refresh(n);
  }

  /**
   * The children of `up` anew. Answers the groups that were not there before.
   * @param {number} up @returns {number[]}
   */
  refresh(up) {
    const { first, next, names, children, capacity } = this.store;
    if (up < 0 || (children[up] <= MANY && !this.under.has(up))) return [];
    if (this.member.length < capacity) {
      const wider = new Int32Array(capacity).fill(-1);
      wider.set(this.member);
      this.member = wider;
    }
    /** @type {Map<string, number>} */ const many = new Map();
    for (let c = first[up]; c >= 0; c = next[c]) many.set(names[c], (many.get(names[c]) ?? 0) + 1);
    const here = this.under.get(up) ?? new Map(), made = [];
    for (const [name, count] of many) {
      if (count <= MANY || !name || here.has(name)) continue;
      here.set(name, this.list.length);
      made.push(this.list.length);
      this.list.push(freshGroup(up, name));
    }
    if (!here.size) return [];
    this.under.set(up, here);
    for (const g of here.values()) {
      this.list[g].members = [];
      this.list[g].seen = -1;
    }
    for (let c = first[up]; c >= 0; c = next[c]) {
      const g = here.get(names[c]) ?? -1;
      this.member[c] = g;
      if (g >= 0) this.list[g].members.push(c);
    }
    return made;
  }

  /** The group that a task stands in, -1 for none. @param {number} n */
  of(n) {
    const g = n < this.member.length ? this.member[n] : -1;
    // One that moved away is not in the list of its old parent any more.
    return g >= 0 && this.list[g].parent === this.store.parent[n] ? g : -1;
  }

  /** Rows that the children of `up` make, where all are shown. @param {number} up */
  rowsBelow(up) {
    let rows = this.store.children[up];
    for (const g of this.under.get(up)?.values() ?? []) rows -= Math.max(0, this.list[g].members.length - 1);
    return rows;
  }

  /** Whatever happens to or below a member is told to its parent. @param {Group} group */
  stamp(group) {
    return this.store.stamp[group.parent];
  }

  /** With its sums as of now. @param {number} g @returns {Group} */
  summed(g) {
    const { store } = this, group = this.list[g], stamp = this.stamp(group);
    if (group.seen === stamp) return group;
    group.seen = stamp;
    sumUp(store, group);
    return group;
  }
}

/** @param {import("./store.js").Store} store @param {Group} group */
export function sumUp({ status, children, down, rest, spanFrom, spanTo }, group) {
  const { own, counts } = group, width = STATUSES.length;
  own.fill(0);
  counts.fill(0);
  group.rest = 0;
  group.from = Infinity;
  group.to = -Infinity;
  for (const n of group.members) {
    own[status[n]]++;
    if (children[n]) for (let s = 0; s < width; s++) counts[s] += down[n * width + s];
    group.rest += rest[n];
    if (spanFrom[n] < group.from) group.from = spanFrom[n];
    if (spanTo[n] > group.to) group.to = spanTo[n];
  }
  for (let s = 0; s < width; s++) counts[s] += own[s];
}

/** What a group is, in one word: at work while any member is, then what went worst. @param {Group} group */
export function statusOf({ own, members }) {
  if (own[PENDING] === members.length) return PENDING;
  if (own[PENDING] || own[RUNNING]) return RUNNING;
  return [FAILED, SUCCESS, CANCELLED].find((status) => own[status]) ?? SKIPPED;
}

/** @param {number} parent @param {string} name @returns {Group} */
export function freshGroup(parent, name) {
  const zeros = () => new Int32Array(STATUSES.length);
  return { parent, name, members: [], open: false, at: -1, seen: -1, own: zeros(), counts: zeros(), rest: 0, from: Infinity, to: -Infinity };
}
