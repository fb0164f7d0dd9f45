// @ts-check
/** The bar over marked rows: asks each marked branch, one command after the other, and says what became of each. */
import { count } from "../js/marks.js";
import { announce, toast } from "../js/voice.js";
import { accepted, affected, newId } from "./controls.js";
import { ACTIONS, CANCEL, PAUSE, RUN } from "./store.js";
import { say, sayCount } from "./words.js";

/** Branches that are asked at once. */
const MOST = 100;
/** Refusals that are named in words; the audit has all of them. */
const NAMED = 5;

export class Bulk {
  /**
   * @param {HTMLElement} page @param {import("./store.js").Store} store @param {import("./marked.js").Marked} marked
   * @param {import("./controls.js").Controls} controls @param {() => void} cleared
   */
  constructor(page, store, marked, controls, cleared) {
    this.store = store;
    this.marked = marked;
    this.controls = controls;
    this.cleared = cleared;
    this.bar = /** @type {HTMLElement | null} */ (page.querySelector("[data-bulk]"));
    this.busy = false;
    this.drawn = "";
    this.bar?.addEventListener("click", (event) => this.#clicked(/** @type {Element} */ (event.target)));
  }

  /** @param {Element} at */
  #clicked(at) {
    const button = /** @type {HTMLButtonElement | null} */ (at.closest("button"));
    if (!button || button.getAttribute("aria-disabled") === "true" || this.busy) return;
    if (button.matches("[data-clear-marks]")) return this.cleared();
    this.ask(ACTIONS.indexOf(button.value));
  }

  /** Of all marked branches that take it. @param {number} action */
  ask(action) {
    const places = this.#taking(this.marked.branches(), action);
    if (!places.length || this.busy) return;
    if (action === CANCEL) this.controls.question(places, (said) => this.#each(places, CANCEL, said));
    else this.#each(places, action, {});
  }

  /** @param {number[]} branches @param {number} action */
  #taking(branches, action) {
    return branches.length > MOST ? [] : branches.filter((n) => accepted(this.store, n).includes(action));
  }

  /** With each frame in which something changed. */
  draw() {
    const { bar, marked, store } = this;
    if (!bar || this.busy) return;
    const key = `${marked.version} ${store.seq} ${store.epoch}`;
    if (key === this.drawn) return;
    this.drawn = key;
    bar.hidden = !marked.tasks.size;
    document.body.classList.toggle("marking", !bar.hidden);
    if (bar.hidden) return;
    const branches = marked.branches(), tooMany = branches.length > MOST;
    this.#say(sayCount("marked", marked.tasks.size, count(marked.tasks.size)));
    let some = false;
    for (const button of /** @type {NodeListOf<HTMLButtonElement>} */ (bar.querySelectorAll("button[value]"))) {
      const places = this.#taking(branches, ACTIONS.indexOf(button.value));
      some ||= places.length > 0;
      button.setAttribute("aria-disabled", String(!places.length));
      button.title = places.length ? sayCount("marked_of", places.length, count(places.length)) : "";
    }
    this.#why(tooMany ? say("marked_many", { most: MOST, n: count(branches.length) }) : some ? "" : say(store.past ? "past_commands" : "marked_none"));
  }

  /** @param {string} text */
  #say(text) {
    const place = /** @type {HTMLElement} */ (this.bar?.querySelector("[data-marked]"));
    if (place.textContent !== text) place.textContent = text;
  }

  /** @param {string} text */
  #why(text) {
    const place = /** @type {HTMLElement} */ (this.bar?.querySelector("[data-why]"));
    place.hidden = !text;
    if (place.textContent !== text) place.textContent = text;
  }

  /**
   * One after the other: a hundred at once would stand in the way of everybody else's.
   * @param {number[]} places @param {number} action @param {Record<string, string>} said
   */
  async #each(places, action, said) {
    if (this.busy) return;
    this.busy = true;
    this.bar?.setAttribute("aria-busy", "true");
    /** @type {{place: number, answer: any}[]} */ const answers = [];
    for (const place of places) {
      this.#say(say("asking_each", { n: count(answers.length + 1), all: count(places.length) }));
      answers.push({ place, answer: await this.controls.send(place, action, { ...said, id: newId() }, null) });
    }
    this.busy = false;
    this.bar?.removeAttribute("aria-busy");
    this.drawn = "";
    this.#report(answers, action);
    if (action === CANCEL) this.cleared();
    else this.draw();
  }

  /** @param {{place: number, answer: any}[]} answers @param {number} action */
  #report(answers, action) {
    const taken = answers.filter(({ answer }) => !answer.error), refused = answers.filter(({ answer }) => answer.error);
    if (refused.length) toast(this.#refusals(refused, answers.length), { tone: "bad" });
    if (!taken.length) return;
    const tasks = taken.reduce((sum, { answer }) => sum + affected(answer.control), 0);
    const word = { [PAUSE]: "paused_branches", [RUN]: "resumed_branches", [CANCEL]: "cancelled_branches" }[action] ?? "";
    const text = say(word, { tasks: `${count(tasks)} ${sayCount("tasks", tasks)}`, branches: sayCount("branches", taken.length, count(taken.length)) });
    const back = action === PAUSE ? RUN : PAUSE, places = taken.map(({ place }) => place);
    toast(text, action === CANCEL ? {} : { undo: { label: say("undo"), act: () => this.#each(places, back, {}) } });
    if (refused.length) announce(text);
  }

  /** Which, and why. @param {{place: number, answer: any}[]} refused @param {number} all */
  #refusals(refused, all) {
    const named = refused.slice(0, NAMED).map(({ place, answer }) => `${this.store.name(place)}: ${answer.error.message}`);
    const rest = refused.length - named.length;
    return [say("refused_of", { n: count(refused.length), all: count(all) }), ...named, rest ? say("loose_more", { n: count(rest) }) : ""].filter(Boolean).join("\n");
  }
}
