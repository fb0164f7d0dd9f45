// @ts-check
/** The critical path: what the run waited for, found from its end backwards. No DOM. */
import { isOpen } from "./store.js";
import { began, ended } from "./times.js";

/**
 * What of the path lies at and below a task, and the parts in which nothing below it was waited for: from, to, from, to …
 * @typedef {{from: number, to: number, own: number[]}} Stretch
 * `tasks` and `spent` count what is below the root, `whole` is the root's time.
 * @typedef {{steps: Map<number, Stretch>, tasks: number, spent: number, whole: number, open: boolean}} Path
 */

/**
 * From the end of the root back: at each moment the child that ended last is what its parent waited for, and so on below it;
 * from its start back the one that ended last before that. Where there is none, the parent itself took the time.
 * Iterative: chains may be a thousand deep.
 * @param {import("./store.js").Store} store @param {number} now @returns {Path}
 */
export function criticalPath(store, now) {
  /** @type {Path} */ const path = { steps: new Map(), tasks: 0, spent: 0, whole: 0, open: false };
  const { root } = store;
  if (root < 0) return path;
  path.open = isOpen(store.status[root]);
  const from = began(store, root), to = ended(store, root, now);
  if (!(to > from)) return path;
  path.whole = to - from;
  /** @param {number} n @param {number} from @param {number} to */
  const enter = (n, from, to) => {
    const own = /** @type {number[]} */ ([]);
    path.steps.set(n, { from, to, own });
    return { own, from, cut: to, waited: new Waited(store, n, from, to, now) };
  };
  const way = [enter(root, from, to)];
  while (way.length) {
    const here = way[way.length - 1];
    const child = here.cut > here.from ? here.waited.before(here.cut) : -1;
    if (child < 0) {
      if (here.cut > here.from) here.own.push(here.from, here.cut);
      way.pop();
      continue;
    }
    // A child of another clock may begin before its parent, or end after it: what is beyond does not count.
    const last = Math.min(here.cut, ended(store, child, now)), first = Math.max(here.from, began(store, child));
    if (last < here.cut) here.own.push(last, here.cut);
    here.cut = first;
    if (store.first[child] < 0) path.steps.set(child, { from: first, to: last, own: [first, last] });
    else way.push(enter(child, first, last));
  }
  path.tasks = path.steps.size - 1;
  path.spent = path.whole - sum(path.steps.get(root)?.own ?? []);
  return path;
}

/** So many are looked for one by one before the rest is sorted: in a fan that ran in parallel few count, and to sort 100,000 takes 60 ms. */
const ONE_BY_ONE = 32;

/** The children of a task that it may have waited for, the last first. */
class Waited {
  /** @param {import("./store.js").Store} store @param {number} n @param {number} from @param {number} to @param {number} now */
  constructor(store, n, from, to, now) {
    this.store = store;
    this.now = now;
    this.asked = 0;
    /** @type {number[]} */ this.list = [];
    for (let c = store.first[n]; c >= 0; c = store.next[c]) {
      // What took no time was not waited for; NaN, without any time, is greater than nothing.
      if (Math.min(to, ended(store, c, now)) > Math.max(from, began(store, c))) this.list.push(c);
    }
  }

  /** Below 0 where `a` is the one that was waited for: it ended last; of those it began first; what is open ends last of all. @param {number} a @param {number} b */
  #later(a, b) {
    return this.#end(b) - this.#end(a) || began(this.store, a) - began(this.store, b) || a - b;
  }

  /** @param {number} n */
  #end(n) {
    // Far away rather than infinite: the difference of two is 0.
    return isOpen(this.store.status[n]) ? Number.MAX_VALUE : ended(this.store, n, this.now);
  }

  /** The next, -1 with none; after the first only what had ended at `cut`, which was its start. @param {number} cut */
  before(cut) {
    this.asked++;
    if (this.asked <= ONE_BY_ONE) {
      if (this.asked > 1) this.list = this.list.filter((c) => this.#end(c) <= cut);
      let best = this.list.length ? this.list[0] : -1;
      for (const c of this.list) if (this.#later(c, best) < 0) best = c;
      return best;
    }
    if (this.asked === ONE_BY_ONE + 1) this.list.sort((a, b) => this.#later(b, a));
    for (let c = this.list.pop(); c !== undefined; c = this.list.pop()) if (this.#end(c) <= cut) return c;
    return -1;
  }
}

/** @param {number[]} pairs */
function sum(pairs) {
  let all = 0;
  for (let at = 0; at < pairs.length; at += 2) all += pairs[at + 1] - pairs[at];
  return all;
}
