// @ts-check
/**
 * The line to the tower: says what it hears, notices silence, comes back by itself.
 * Knows frames and sequences, nothing of trees.
 *
 * @typedef {"live" | "late" | "off"} Liveness
 * @typedef {{hello: (frame: any, asked: boolean) => void, delta: (frame: any) => void, reset: () => void, seq: () => number, epoch: () => string,
 *   state: (state: Liveness, why: string) => void, heard: (serverMs: number | undefined, frame: any) => void,
 *   poll: () => Promise<boolean>}} Ears
 */

/** The server beats after 5 s of silence (30 s once the trace has ended): so long without a word is a lost line. */
const SILENCE_MS = 11_000;
const SILENCE_AT_REST_MS = 66_000;
const SHORTEST_WAIT_MS = 500, LONGEST_WAIT_MS = 30_000;
/** So many sockets that did not open in a row: ask by HTTP meanwhile. */
const FAILURES_BEFORE_POLLING = 2;
const POLL_MS = 2000;
const FRAMES_AN_ACK = 4;
const STOP = new Map([[4401, "signed_out"], [4403, "not_allowed"], [4404, "gone"]]);

export class LiveSocket {
  /** @param {string} path @param {string} trace @param {Ears} ears */
  constructor(path, trace, ears) {
    this.url = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${path}`;
    this.trace = trace;
    this.ears = ears;
    /** @type {WebSocket | null} */ this.socket = null;
    this.heardAt = 0;
    this.failures = 0;
    this.wait = SHORTEST_WAIT_MS;
    this.atRest = false;
    this.stopped = false;
    this.unacknowledged = 0;
    this.subscribed = false;
    /** @type {ReturnType<typeof setTimeout> | undefined} */ this.again = undefined;
    setInterval(() => this.#eachSecond(), 1000);
    addEventListener("offline", () => this.#lost("offline"));
    addEventListener("online", () => this.#soon());
    addEventListener("pagehide", () => this.#leave());
    addEventListener("pageshow", (event) => event.persisted && this.#open());
    document.addEventListener("visibilitychange", () => document.hidden || this.#soon());
    this.#open();
  }

  #open() {
    clearTimeout(this.again);
    if (this.socket || this.stopped) return;
    let socket;
    try {
      socket = new WebSocket(this.url);
    } catch {
      return this.#later();
    }
    this.socket = socket;
    this.subscribed = false;
    this.heardAt = performance.now();
    socket.onopen = () => {
      const since = this.ears.seq();
      this.asked = since >= 0;
      this.send({ v: 1, op: "sub", trace: this.trace, since: since < 0 ? null : since, epoch: this.ears.epoch() || null });
    };
    socket.onmessage = (event) => this.socket === socket && this.#hear(event.data);
    socket.onclose = (event) => this.socket === socket && this.#closed(event.code);
  }

  /** @param {object} frame */
  send(frame) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(frame));
  }

  /** What is missing since this sequence, please. @param {number} seq */
  since(seq) {
    this.send({ v: 1, op: "since", seq });
  }

  /** @param {string} data */
  #hear(data) {
    this.heardAt = performance.now();
    const frame = JSON.parse(data);
    if (frame.v !== undefined && frame.v !== 1) return this.#stop("reload");
    this.ears.heard(frame.t, frame);
    if (frame.op === "hello") {
      this.subscribed = true;
      this.failures = 0;
      this.wait = SHORTEST_WAIT_MS;
      clearInterval(this.polling);
      this.polling = undefined;
      this.atRest = frame.ended === true;
      this.ears.hello(frame, this.asked === true);
    } else if (frame.op === "d") {
      this.atRest = false;
      this.ears.delta(frame);
      if (++this.unacknowledged >= FRAMES_AN_ACK) this.#acknowledge();
    } else if (frame.op === "reset") this.ears.reset();
    else if (frame.op === "beat" || frame.op === "end") {
      if (frame.op === "end") this.atRest = true;
      this.ears.delta(frame);
    }
  }

  #acknowledge() {
    this.unacknowledged = 0;
    this.send({ v: 1, op: "ack", seq: this.ears.seq() });
  }

  #eachSecond() {
    if (this.unacknowledged) this.#acknowledge();
    if (this.socket && performance.now() - this.heardAt > (this.atRest ? SILENCE_AT_REST_MS : SILENCE_MS)) this.#lost("silence");
  }

  /** @param {string} why */
  #lost(why) {
    const socket = this.socket;
    this.socket = null;
    this.subscribed = false;
    socket?.close();
    if (this.stopped) return;
    this.ears.state("late", why);
    this.#later();
  }

  /** @param {number} code */
  #closed(code) {
    this.socket = null;
    const why = STOP.get(code);
    if (why) return this.#stop(why);
    if (!this.subscribed) this.failures++;
    this.subscribed = false;
    this.ears.state("late", "closed");
    this.#later();
  }

  #later() {
    clearTimeout(this.again);
    this.again = setTimeout(() => this.#open(), this.wait * (0.75 + Math.random() / 2));
    this.wait = Math.min(LONGEST_WAIT_MS, this.wait * 2);
    if (this.failures >= FAILURES_BEFORE_POLLING && !this.polling) {
      this.polling = setInterval(() => this.#poll(), POLL_MS);
    }
  }

  /** Something has changed for the better: try at once. */
  #soon() {
    if (this.socket || this.stopped) return;
    this.wait = SHORTEST_WAIT_MS;
    this.#open();
  }

  async #poll() {
    if (this.asking || this.socket?.readyState === WebSocket.OPEN) return;
    this.asking = true;
    const there = await this.ears.poll();
    this.asking = false;
    if (this.stopped || this.subscribed) return;
    this.ears.state(there ? "live" : "late", there ? "polling" : "closed");
  }

  #leave() {
    const socket = this.socket;
    this.socket = null;
    clearTimeout(this.again);
    socket?.close();
  }

  /** @param {string} why */
  #stop(why) {
    this.stopped = true;
    this.#leave();
    clearInterval(this.polling);
    this.ears.state("off", why);
  }
}
