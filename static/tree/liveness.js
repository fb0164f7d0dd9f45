// @ts-check
/** How live the page is, in the badge and in words. */
import { when } from "../js/marks.js";
import { announce, badge, toast } from "../js/voice.js";
import { say } from "./words.js";

/** After so long without the line the rows are veiled. */
const VEIL_MS = 10_000;

export class Liveness {
  /** @param {HTMLElement} page @param {HTMLElement} grid @param {import("./store.js").Store} store */
  constructor(page, grid, store) {
    this.page = page;
    this.grid = grid;
    this.store = store;
    /** @type {"live" | "late" | "off"} */ this.state = "off";
    this.mode = "live";
    this.lateSince = 0;
    this.toasted = "";
  }

  get #veil() {
    return this.page.querySelector("[data-veil]");
  }

  /** @param {"live" | "late" | "off"} next @param {string} why */
  tell(next, why) {
    const { store, state } = this;
    if (state !== next) {
      if (next === "late") this.lateSince = performance.now();
      if (next === "late" && state === "live" && why !== "catching_up") announce(say("connection_lost"), true);
      if (next === "live" && state === "late" && this.#veil) announce(say("connection_back"));
      this.state = next;
      this.grid.dataset.live = next;
    }
    if (next === "live") {
      this.#veil?.remove();
      const rest = store.stillOpen(-1) === 0 && Number.isFinite(store.to);
      const polling = why === "polling" || this.mode === "poll";
      badge(rest && !polling ? "rest" : "live", polling ? say("polling") : rest ? when(store.to) : "");
    } else badge(next, "", next === "late" && why !== "catching_up" && why !== "connecting" ? "lost" : next);
    if (next === "off") this.#toastOnce(why);
  }

  tick() {
    if (this.state === "late" && this.lateSince && performance.now() - this.lateSince > VEIL_MS) this.#cover();
  }

  /** @param {string} why */
  #toastOnce(why) {
    if (this.toasted === why) return;
    this.toasted = why;
    if (why === "signed_out") {
      const back = `${this.page.dataset.login}?next=${encodeURIComponent(location.pathname + location.search)}`;
      toast(say(why), { tone: "bad", undo: { label: say("sign_in"), act: () => location.assign(back) } });
    } else toast(say(why), { tone: "bad" });
  }

  /** One line over the tree, so that nobody takes old news for new. */
  #cover() {
    if (this.#veil) return;
    const line = document.createElement("p");
    line.className = "veil";
    line.dataset.veil = "";
    line.textContent = say("offline_since", { time: when(Date.now() - (performance.now() - this.lateSince)) });
    this.page.querySelector(".work")?.prepend(line);
  }
}
