// @ts-check
/** What the server says of the selected task in sentences: why its status stands, its attempts, what its join waits for. */
import { count, paintTime } from "../js/marks.js";
import { point } from "./rows.js";
import { say } from "./words.js";

/** A task that changes all the time is asked for this often. */
const REFETCH_MS = 1000;

/** @typedef {{text: string, task_id?: string, ms?: number}} Piece */

export class Told {
  /** @param {HTMLElement} pane @param {string} url @param {() => void} changed */
  constructor(pane, url, changed) {
    this.pane = pane;
    this.url = url;
    this.changed = changed;
    /** @type {string | undefined} */ this.id = undefined;
    this.known = this.joins = false;
    this.parameters = 0;
    /** Of the results: what the first page looked like, and where the next begins. */
    this.first = "";
    this.after = "";
    this.asked = 0;
  }

  /** @param {string} name */
  list(name) {
    return /** @type {HTMLElement} */ (this.pane.querySelector(`[data-list=${name}]`));
  }

  /** @param {string | undefined} id */
  show(id) {
    this.id = id;
    this.known = this.joins = false;
    this.first = this.after = "";
    for (const name of ["told", "alike", "attempts", "join", "tally", "join-facts", "results"]) this.list(name).replaceChildren();
    for (const name of ["attempts", "results"]) this.#part(name).hidden = true;
  }

  /** Asks anew, at most once in a while; never twice at once. */
  refresh() {
    if (this.id === undefined || this.waiting !== undefined) return;
    const rest = this.known ? this.asked + REFETCH_MS - performance.now() : 0;
    this.waiting = setTimeout(() => {
      this.waiting = undefined;
      this.#ask();
    }, Math.max(0, rest));
  }

  async #ask() {
    this.asked = performance.now();
    const said = await this.#get("");
    if (!said) return;
    this.known = true;
    this.joins = said.join !== null;
    this.parameters = said.parameters;
    write(this.list("told"), said.say.map(sentence));
    write(this.list("alike"), said.alike.map(sentence));
    this.#attempts(said);
    if (said.join) this.#join(said.join);
    this.changed();
  }

  /** The next page of an aggregator's results. */
  async more() {
    if (!this.after) return;
    const said = await this.#get(`?after=${encodeURIComponent(this.after)}`);
    if (!said?.join?.results) return;
    this.list("results").append(...said.join.results.map(result));
    this.#next(said.join.after);
  }

  /** @param {string} query @returns {Promise<any>} null where it could not be had, or another task is shown meanwhile */
  async #get(query) {
    const id = this.id;
    if (id === undefined) return null;
    try {
      const response = await fetch(`${this.url}${encodeURIComponent(id)}/${query}`, { headers: { Accept: "application/json" }, credentials: "same-origin" });
      const said = response.ok ? await response.json() : null;
      return id === this.id ? said : null;
    } catch {
      return null;
    }
  }

  /** @param {any} said */
  #attempts(said) {
    this.#part("attempts").hidden = !said.attempts.length;
    write(this.list("attempts"), said.attempts.map(attempt));
    const rest = /** @type {HTMLElement} */ (this.pane.querySelector("[data-field=left-out]"));
    rest.textContent = said.left_out ? say("left_out", { n: count(said.left_out) }) : "";
  }

  /** @param {any} join */
  #join(join) {
    write(this.list("join"), join.say.map(sentence));
    write(this.list("tally"), join.counts.map(tally));
    write(this.list("join-facts"), join.facts.flatMap((/** @type {[string, string]} */ [word, value]) => [
      make("dt", word), make("dd", value, "num")]));
    this.#part("results").hidden = join.results === null;
    const first = JSON.stringify([join.results, join.after]);
    // Further pages that were opened stay, as long as the first is what it was.
    if (first === this.first) return;
    this.first = first;
    write(this.list("results"), (join.results ?? []).map(result));
    this.#next(join.after);
  }

  /** @param {string} after */
  #next(after) {
    this.after = after;
    /** @type {HTMLElement} */ (this.pane.querySelector("[data-more=results]")).hidden = !after;
  }

  /** @param {string} name */
  #part(name) {
    return /** @type {HTMLElement} */ (this.pane.querySelector(`[data-part=${name}]`));
  }
}

/** Writes only what differs, so that what is selected or focused stays. @param {HTMLElement} place @param {HTMLElement[]} items */
function write(place, items) {
  items.forEach((item, at) => {
    const old = place.children[at];
    if (!old) place.append(item);
    else if (!old.isEqualNode(item)) old.replaceWith(item);
  });
  while (place.children.length > items.length) place.lastElementChild?.remove();
}

/** @param {Piece[]} pieces */
function sentence(pieces) {
  const item = document.createElement("li");
  item.append(...pieces.map(piece));
  return item;
}

/** @param {Piece} one @returns {Node} */
function piece(one) {
  if (one.task_id !== undefined) return link(one.task_id, one.text);
  if (one.ms === undefined) return document.createTextNode(one.text);
  const time = document.createElement("time");
  time.className = "num";
  paintTime(time, one.ms);
  return time;
}

/** @param {string} id @param {string} text */
function link(id, text) {
  const part = document.createElement("a");
  part.className = "text";
  part.href = `?node=${encodeURIComponent(id)}`;
  part.dataset.task = id;
  part.append(make("bdi", text));
  return part;
}

/** @param {any} line */
function attempt(line) {
  const item = copy("attempt");
  item.dataset.status = line.status;
  point(/** @type {any} */ (item.querySelector("use")), line.status);
  field(item, "number").textContent = say("attempt_word", { n: count(line.number) });
  field(item, "text").textContent = line.text;
  paintTime(field(item, "at"), line.started_ms);
  field(item, "reports").textContent = line.reports;
  const notes = /** @type {HTMLElement} */ (item.querySelector("[data-list=attempt-notes]"));
  notes.replaceChildren(...line.notes.map(sentence));
  return item;
}

/** @param {[string, number]} counted */
function tally([status, number]) {
  const item = document.createElement("li");
  item.dataset.status = status;
  const mark = make("span", "", "st");
  mark.append(/** @type {Element} */ (copy("attempt").querySelector("svg")));
  point(/** @type {any} */ (mark.querySelector("use")), status);
  item.append(mark, make("b", count(number), "num"), ` ${say(`status_${status}`)}`);
  return item;
}

/** @param {any} one */
function result(one) {
  const item = copy("result");
  item.dataset.status = one.status;
  point(/** @type {any} */ (item.querySelector("use")), one.status);
  item.querySelector("a")?.replaceWith(link(one.task_id, one.task_id));
  /** @type {HTMLElement} */ (item.querySelector("[data-part=late]")).hidden = !one.late;
  field(item, "ref").textContent = one.output_ref ?? "";
  return item;
}

/** @param {string} id @returns {HTMLElement} */
function copy(id) {
  const pattern = /** @type {HTMLTemplateElement} */ (document.getElementById(id));
  return /** @type {HTMLElement} */ (/** @type {Element} */ (pattern.content.firstElementChild).cloneNode(true));
}

/** @param {Element} item @param {string} name @returns {HTMLElement} */
const field = (item, name) => /** @type {HTMLElement} */ (item.querySelector(`[data-field=${name}]`));

/** @param {string} tag @param {string} text @param {string} [name] */
function make(tag, text, name) {
  const part = document.createElement(tag);
  part.textContent = text;
  if (name) part.className = name;
  return part;
}
