// @ts-check
/** What became of the tasks, for those who hear the page. */
import { count } from "../js/marks.js";
import { announce } from "../js/voice.js";
import { FAILED } from "./store.js";
import { say } from "./words.js";

/** Changes in the status of tasks are spoken at most so often. */
const SPEAK_MS = 5000;

export class News {
  /** @param {import("./store.js").Store} store */
  constructor(store) {
    this.store = store;
    this.spoken = { ended: 0, failed: 0, at: 0 };
  }

  get #now() {
    const { store } = this;
    return { ended: store.total - store.stillOpen(-1), failed: store.totals[FAILED], at: performance.now() };
  }

  /** All of it is known. */
  reset() {
    this.spoken = this.#now;
  }

  /** At most one line each few seconds, of the kind "12 finished, 1 failed". */
  speak() {
    if (performance.now() - this.spoken.at < SPEAK_MS) return;
    const now = this.#now, ended = now.ended - this.spoken.ended, failed = now.failed - this.spoken.failed;
    if (ended <= 0 && failed <= 0) return;
    this.spoken = now;
    announce(say("news", { ended: count(Math.max(0, ended)), failed: count(Math.max(0, failed)) }));
  }
}
