// @ts-check
/** Rows that were marked, to ask something of all of them at once. No DOM. */
import { FIRST_GROUP } from "./groups.js";

export class Marked {
  /** @param {import("./store.js").Store} store @param {import("./order.js").Order} order */
  constructor(store, order) {
    this.store = store;
    this.order = order;
    /** With their ids: after a restored backup a number may be another task. @type {Map<number, string>} */ this.tasks = new Map();
    /** Where a range began. */
    this.from = -1;
    /** Raised with each change. */
    this.version = 0;
  }

  /** Is this row marked? A group is where all of it are. @param {number} row */
  has(row) {
    const group = this.order.group(row);
    return group ? group.members.length > 0 && group.members.every((n) => this.tasks.has(n)) : this.tasks.has(row);
  }

  /** @param {number} row @param {boolean} on */
  set(row, on) {
    for (const n of this.order.group(row)?.members ?? [row]) {
      if (on) this.tasks.set(n, this.store.ids[n] ?? "");
      else this.tasks.delete(n);
    }
    this.from = row;
    this.version++;
  }

  /** All rows from where the last mark was made to this one. @param {number} row */
  reach(row) {
    const { order } = this, to = order.at(row), began = order.at(this.from);
    const from = began < 0 ? to : began, start = this.from < 0 || began < 0 ? row : this.from;
    for (let at = Math.min(from, to); at >= 0 && at <= Math.max(from, to); at++) if (order.rows[at] < FIRST_GROUP || !order.isOpen(order.rows[at])) this.set(order.rows[at], true);
    this.from = start;
  }

  clear() {
    this.tasks.clear();
    this.from = -1;
    this.version++;
  }

  /** After a fresh snapshot. */
  renew() {
    for (const [n, id] of this.tasks) if (this.store.ids[n] !== id) this.tasks.delete(n);
    this.version++;
  }

  /** What one command each is enough for: marks without those below another mark. */
  branches() {
    const { parent } = this.store, { tasks } = this;
    return [...tasks.keys()].filter((n) => {
      for (let up = parent[n]; up >= 0; up = parent[up]) if (tasks.has(up)) return false;
      return true;
    });
  }
}
