// @ts-check
/** All tasks in order of their start; those that have not started last. No DOM. */

export class Flat {
  /** @param {import("./store.js").Store} store */
  constructor(store) {
    this.store = store;
    this.reset();
  }

  reset() {
    this.length = 0;
    this.list = new Int32Array(0);
    /** Where a task stands in the order, NaN where it does not stand in it yet. */
    this.starts = new Float64Array(0);
  }

  /** Only what is new or began since is put anew: at 100,000 tasks all of them would take longer than a frame. */
  sort() {
    const moved = this.#moved();
    if (!moved.length) return;
    const { list, starts } = this, taken = new Uint8Array(this.store.capacity);
    for (const n of moved) taken[n] = 1;
    const merged = new Int32Array(this.store.capacity);
    const before = (/** @type {number} */ a, /** @type {number} */ b) => starts[a] < starts[b] || (starts[a] === starts[b] && a < b);
    moved.sort((a, b) => (before(a, b) ? -1 : 1));
    let count = 0, next = 0;
    for (let i = 0; i < this.length; i++) {
      const n = list[i];
      if (taken[n]) continue;
      while (next < moved.length && before(moved[next], n)) merged[count++] = moved[next++];
      merged[count++] = n;
    }
    while (next < moved.length) merged[count++] = moved[next++];
    this.list = merged;
    this.length = count;
  }

  /** Those whose start is another than the order knows. */
  #moved() {
    const { size, known, start, capacity } = this.store;
    if (this.starts.length < capacity) {
      const wider = new Float64Array(capacity).fill(NaN);
      wider.set(this.starts);
      this.starts = wider;
    }
    const moved = [];
    for (let n = 0; n < size; n++) {
      if (!known[n]) continue;
      const at = Number.isNaN(start[n]) ? Infinity : start[n];
      if (this.starts[n] === at) continue;
      this.starts[n] = at;
      moved.push(n);
    }
    return moved;
  }
}
