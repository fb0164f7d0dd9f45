// @ts-check
/** What arrives of a run: a snapshot, then its changes by the line, or by HTTP where there is none. */
import { hear } from "./clock.js";
import { LiveSocket } from "./live-socket.js";
import { intentsOf, rowOfTask, rowsOfDelta, rowsOfSnapshot } from "./wire.js";

const JSON_ONLY = { headers: { Accept: "application/json" }, credentials: /** @type {const} */ ("same-origin") };

/**
 * `keep` gives what has to be known after a snapshot took the place of all; `loaded` gets it.
 * @typedef {{keep: () => any, loaded: (kept: any) => void, reshaped: (parents: Set<number>) => void, asked: () => void, changed: () => void}} Listeners
 */

export class Arrivals {
  /**
   * @param {HTMLElement} page @param {HTMLElement} grid @param {import("./store.js").Store} store
   * @param {import("./liveness.js").Liveness} liveness @param {Listeners} on
   */
  constructor(page, grid, store, liveness, on) {
    this.page = page;
    this.grid = grid;
    this.store = store;
    this.liveness = liveness;
    this.on = on;
    /** @type {any[]} */ this.buffered = [];
    /** What the line said last: of which epoch it speaks, and how far the tower is. */
    this.promised = { epoch: "", seq: -1 };
    this.epoch = "";
    this.t0 = 0;
    this.control = -1;
    this.loaded = this.loading = false;
    this.socket = new LiveSocket(page.dataset.socket ?? "", page.dataset.trace ?? "", {
      seq: () => (this.#steady ? this.store.seq : -1),
      epoch: () => this.epoch,
      hello: (frame, asked) => this.#greeted(frame, asked),
      delta: (frame) => (this.#steady ? this.#take(frame) : frame.op === "d" && this.buffered.push(frame)),
      reset: () => this.load(),
      heard: (ms) => { if (ms !== undefined) hear(ms); },
      state: (next, why) => liveness.tell(next, why),
      poll: () => this.#poll(),
    });
  }

  get #steady() {
    return this.loaded && !this.loading;
  }

  /** @param {any} frame @param {boolean} asked */
  #greeted(frame, asked) {
    this.promised = { epoch: frame.epoch, seq: frame.seq };
    this.liveness.mode = frame.mode ?? "live";
    if (this.loading) return;
    if (!this.loaded) return this.load();
    if (frame.epoch === this.epoch) this.#takeIntents(frame.intents, frame.control);
    // What was missed follows by itself where the greeting said how far this page is.
    if (!asked || frame.seq <= this.store.seq) this.#reconcile();
  }

  /** Both are here, the snapshot and the line: is anything missing between them? */
  #reconcile() {
    if (!this.socket.subscribed) return;
    if (this.promised.epoch !== this.epoch) return this.load();
    if (this.promised.seq > this.store.seq) this.socket.since(this.store.seq);
    else this.#settle();
  }

  /** A fresh snapshot; deltas that come meanwhile wait. */
  async load() {
    if (this.loading) return;
    this.loading = true;
    this.buffered = [];
    this.grid.setAttribute("aria-busy", "true");
    try {
      const response = await fetch(this.page.dataset.snapshot ?? "", JSON_ONLY);
      if (!response.ok) throw new Error(String(response.status));
      const body = await response.json();
      const kept = this.on.keep();
      this.store.load(rowsOfSnapshot(body), body.intents, body.seq);
      this.epoch = body.epoch;
      this.control = body.control ?? -1;
      this.t0 = body.t0;
      this.on.loaded(kept);
      this.loaded = true;
      this.loading = false;
      const waiting = this.buffered;
      this.buffered = [];
      for (const frame of waiting) if (frame.from <= this.store.seq) this.#take(frame);
      this.#reconcile();
      this.on.asked();
    } catch {
      this.loading = false;
      // The line is there but the snapshot is not: ask again, as the line would be asked for.
      if (this.liveness.state !== "off") setTimeout(() => this.load(), 2000);
    }
    this.grid.removeAttribute("aria-busy");
  }

  /** One frame of the line, in order or not. @param {any} frame */
  #take(frame) {
    const { store, socket, liveness } = this;
    if (frame.mode) liveness.mode = frame.mode;
    if (frame.op !== "d") {
      if (frame.seq > store.seq || frame.control > this.control) socket.since(store.seq), liveness.tell("late", "catching_up");
      else this.#settle();
      return;
    }
    if (frame.from > store.seq) {
      liveness.tell("late", "catching_up");
      socket.since(store.seq);
      return;
    }
    if (frame.seq > store.seq) this.#apply(rowsOfDelta(frame, this.t0), frame.seq);
    if (frame.intents) this.#takeIntents(frame.intents, frame.control);
    this.#settle();
  }

  /** @param {import("./store.js").Row[]} changes @param {number} seq */
  #apply(changes, seq) {
    this.on.reshaped(this.store.apply(changes, seq));
    this.on.changed();
  }

  /** @param {import("./store.js").Intent[]} intents @param {number} [number] */
  #takeIntents(intents, number) {
    if (number !== undefined && number <= this.control) return; // known, or overtaken by a newer one
    this.control = number ?? this.control;
    this.store.setIntents(intents);
    this.on.asked();
    this.on.changed();
  }

  /** Nothing is known to be missing. */
  #settle() {
    if (this.#steady && this.socket.subscribed) this.liveness.tell("live", "");
  }

  /** Without a socket: what changed, by HTTP. True where the tower answers. */
  async #poll() {
    try {
      if (!this.loaded) {
        await this.load();
        return this.loaded;
      }
      const { store } = this;
      for (let more = true; more; ) {
        const response = await fetch(`${this.page.dataset.changes}?since=${store.seq}`, JSON_ONLY);
        if (!response.ok) return false;
        const body = await response.json();
        if (body.reset) {
          await this.load();
          return true;
        }
        const made = new Map(body.nodes.map((/** @type {any} */ task) => [task.id, task.n]));
        const find = (/** @type {string} */ id) => made.get(id) ?? store.find(id);
        this.#apply(body.nodes.map((/** @type {any} */ task) => rowOfTask(task, find)), body.seq);
        const asked = intentsOf(body.intents, find);
        if (JSON.stringify(asked) !== JSON.stringify([...store.intents].map(([at, one]) => [at, one.action, one.number]))) this.#takeIntents(asked);
        more = body.more === true;
      }
      return true;
    } catch {
      return false;
    }
  }
}
