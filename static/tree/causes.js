// @ts-check
/** What failed without a failed child, by error code. The codes come from the tower (errors.js). No DOM. */
import { freshGroup, sumUp } from "./groups.js";
import { FAILED } from "./store.js";

/** @typedef {import("./groups.js").Group & {message: string, code: string | null}} Cause code is null until it is known */

export class Causes {
  /** @param {import("./store.js").Store} store */
  constructor(store) {
    this.store = store;
    this.reset();
  }

  reset() {
    /** Never shrinks: the row of a code keeps its number. @type {Cause[]} */ this.list = [];
    /** @type {Map<string | null, number>} */ this.byCode = new Map();
    /** As they are shown. @type {number[]} */ this.shown = [];
    /** The code of a task, and the stamp that it had when it was asked for. @type {Map<number, {code: string, stamp: number}>} */
    this.codes = new Map();
    /** Causes whose code is to be asked for. @type {number[]} */ this.unknown = [];
    this.member = new Int32Array(0);
    this.version = 0;
    this.settled = false;
  }

  /** Those with most tasks come first, until all codes are known; from then on lines keep their places. */
  arrange() {
    this.settled = false;
  }

  /** @param {number[]} tasks @param {number[]} stamps @param {string[]} codes @param {string[]} messages of each task */
  know(tasks, stamps, codes, messages) {
    tasks.forEach((n, i) => {
      this.codes.set(n, { code: codes[i], stamp: stamps[i] });
      const cause = this.list[this.#cause(codes[i])];
      cause.message ||= messages[i];
    });
  }

  /** Who failed by itself, as of now. @param {(n: number) => boolean} keeps */
  collect(keeps) {
    const { size, status, parent, stamp, capacity } = this.store;
    const above = new Uint8Array(capacity);
    for (let n = 0; n < size; n++) if (status[n] === FAILED && parent[n] >= 0) above[parent[n]] = 1;
    for (const cause of this.list) cause.members = [];
    if (this.member.length < capacity) this.member = new Int32Array(capacity);
    this.member.fill(-1);
    this.unknown = [];
    for (let n = 0; n < size; n++) {
      if (status[n] !== FAILED || above[n]) continue;
      const said = this.codes.get(n);
      if (said?.stamp !== stamp[n]) this.unknown.push(n);
      if (!keeps(n)) continue;
      const g = this.#cause(said ? said.code : null);
      this.list[g].members.push(n);
      this.member[n] = g;
    }
    this.version++;
    this.#order();
  }

  #order() {
    const { list } = this;
    const standing = this.settled ? this.shown : [];
    const others = [...list.keys()].filter((g) => !standing.includes(g) && list[g].members.length);
    others.sort((a, b) => list[b].members.length - list[a].members.length || a - b);
    this.shown = [...standing, ...others].filter((g) => list[g].members.length);
    if (!this.unknown.length) this.settled = true;
  }

  /** @param {string | null} code */
  #cause(code) {
    const there = this.byCode.get(code);
    if (there !== undefined) return there;
    this.byCode.set(code, this.list.length);
    return this.list.push({ ...freshGroup(-1, code ?? ""), code, message: "" }) - 1;
  }

  /** @param {number} n */
  of(n) {
    return n < this.member.length ? this.member[n] : -1;
  }

  /** @param {Cause} _ */
  stamp(_) {
    return this.version;
  }

  /** With its sums as of now. @param {number} g @returns {Cause} */
  summed(g) {
    const cause = this.list[g];
    if (cause.seen !== this.version) sumUp(this.store, cause);
    cause.seen = this.version;
    return cause;
  }
}
