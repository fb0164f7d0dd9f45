// @ts-check
/** Asking: PAUSE and RUN at once, CANCEL after a question. Never optimistic: rows change when the tower says so. */
import { count } from "../js/marks.js";
import { toast } from "../js/voice.js";
import { ACTIONS, CANCEL, PAUSE, PENDING, RUN, RUNNING, STATUSES, isOpen } from "./store.js";
import { say, sayCount } from "./words.js";

/**
 * What a place takes (contract, section 5), as `instances.outline.accepted` says it on the server.
 * @param {import("./store.js").Store} store @param {number} place an `n`, or -1 for the whole tree
 */
export function accepted(store, place) {
  if (store.past || store.stillOpen(place) === 0) return [];
  const asked = place < 0 ? store.askedHere(-1) : store.asked(place);
  if (asked === CANCEL) return [CANCEL];
  return store.askedHere(place) === PAUSE ? [RUN, PAUSE, CANCEL] : [PAUSE, CANCEL];
}

export class Controls {
  /** @param {HTMLElement} page @param {import("./store.js").Store} store */
  constructor(page, store) {
    this.page = page;
    this.store = store;
    this.trace = page.dataset.trace ?? "";
    this.url = page.dataset.issue ?? "";
    /** Open tasks that the question is about. */
    this.open = 0;
    this.dialog = /** @type {HTMLDialogElement | null} */ (document.querySelector("dialog[data-ask]"));
    /** What the open question is about, and who acts on its answer. @type {{places: number[], confirmed: ((said: Record<string, string>) => void) | null} | null} */
    this.asking = null;
    page.addEventListener("submit", (event) => this.#submitted(event));
    if (this.dialog) this.#prepare(this.dialog);
  }

  /** May this person ask for anything? */
  get allowed() {
    return this.dialog !== null;
  }

  /** Show what each place takes now. */
  draw() {
    for (const form of /** @type {NodeListOf<HTMLFormElement>} */ (this.page.querySelectorAll("form[data-control]"))) this.#offer(form);
    if (this.asking && this.dialog?.open) this.#sum(this.asking.places);
  }

  /** @param {HTMLFormElement} form */
  #offer(form) {
    const place = this.#placeOf(form);
    if (place === null) return;
    const takes = accepted(this.store, place);
    const foot = form.closest("footer");
    if (foot) foot.hidden = takes.length === 0;
    for (const button of /** @type {NodeListOf<HTMLButtonElement>} */ (form.querySelectorAll("button[name=action]"))) {
      const hidden = !takes.includes(ACTIONS.indexOf(button.value));
      if (button.hidden !== hidden) {
        // The button that was just pressed may vanish under the focus: it goes on to the next.
        if (hidden && document.activeElement === button) queueMicrotask(() => this.#keepFocus(form));
        button.hidden = hidden;
      }
      const again = button.value === "PAUSE" && takes.includes(RUN);
      const label = button.value === "PAUSE" ? say(again ? "ask_again" : "PAUSE") : null;
      const text = button.querySelector("span");
      if (label && text && text.textContent !== label) text.textContent = label;
    }
  }

  /** @param {HTMLFormElement} form */
  #keepFocus(form) {
    if (document.activeElement && document.activeElement !== document.body) return;
    /** @type {HTMLElement | null} */ (form.querySelector("button[name=action]:not([hidden])"))?.focus();
  }

  /** -1 for the whole tree; null where the task is not known (yet). @param {HTMLFormElement} form */
  #placeOf(form) {
    const id = form.dataset.for ?? "";
    if (!id) return -1;
    const n = this.store.find(id);
    return n < 0 ? null : n;
  }

  /** @param {SubmitEvent} event */
  #submitted(event) {
    const form = /** @type {HTMLFormElement} */ (event.target);
    if (!form.matches("form[data-control]")) return;
    const button = /** @type {HTMLButtonElement | null} */ (event.submitter);
    const place = this.#placeOf(form);
    if (!button || place === null) return;
    event.preventDefault();
    if (button.getAttribute("aria-busy") === "true") return;
    this.ask(place, ACTIONS.indexOf(button.value), button);
  }

  /** @param {number} place @param {number} action @param {HTMLButtonElement | null} [button] */
  ask(place, action, button = null) {
    if (!this.allowed || !accepted(this.store, place).includes(action)) return;
    if (action === CANCEL) this.question([place]);
    else this.#act(place, action, button);
  }

  /** @param {number} place @param {number} action @param {HTMLButtonElement | null} button */
  async #act(place, action, button) {
    const answer = await this.send(place, action, { id: newId() }, button);
    if (answer.error) return toast(answer.error.message, { tone: "bad" });
    const n = affected(answer.control);
    if (action === PAUSE) {
      toast(sayCount("paused", n, shown(answer.control)), { undo: { label: say("undo"), act: () => this.#act(place, RUN, null) } });
    } else {
      const still = place < 0 ? null : this.store.askedAt(this.store.parent[place], PAUSE);
      const name = still === null ? "" : still < 0 ? say("whole_run") : this.store.name(still);
      const undo = { label: say("undo"), act: () => this.#act(place, PAUSE, null) };
      toast(name ? `${say("resumed")}. ${say("still_held", { name })}` : say("resumed"), { undo });
    }
  }

  /**
   * One request, known by its id: sent twice it acts once.
   * @param {number} place @param {number} action @param {Record<string, string>} said @param {HTMLElement | null} button
   * @returns {Promise<any>} {control}, or {error: {message, details}}
   */
  async send(place, action, said, button) {
    const token = /** @type {HTMLInputElement} */ (this.page.querySelector("form[data-control] input[name=csrfmiddlewaretoken]")).value;
    const body = new URLSearchParams({ csrfmiddlewaretoken: token, action: ACTIONS[action], task_id: place < 0 ? "" : this.store.ids[place] ?? "", ...said });
    button?.setAttribute("aria-busy", "true");
    try {
      const response = await fetch(this.url, { method: "POST", credentials: "same-origin", headers: { Accept: "application/json" }, body });
      return await response.json();
    } catch {
      return { error: { message: say("no_answer") } };
    } finally {
      button?.removeAttribute("aria-busy");
    }
  }

  // -- the question

  /** @param {HTMLDialogElement} dialog */
  #prepare(dialog) {
    const form = /** @type {HTMLFormElement} */ (dialog.querySelector("form"));
    dialog.querySelector("[data-keep]")?.addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    dialog.addEventListener("close", () => { this.asking = null; });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#confirmed();
    });
  }

  /**
   * Of one place, or of many: then `confirmed` gets the answer and asks each.
   * @param {number[]} places @param {((said: Record<string, string>) => void) | null} [confirmed]
   */
  question(places, confirmed = null) {
    const { dialog } = this;
    if (!dialog) return;
    part(dialog, "h2").textContent = this.#title(places);
    part(dialog, "[data-lead]").textContent = say("ask_lead");
    part(dialog, "[data-error]").hidden = true;
    field(dialog, "reason").value = "";
    field(dialog, "confirm").value = "";
    part(dialog, "[data-part=confirm]").hidden = true;
    for (const one of dialog.querySelectorAll("[aria-invalid]")) one.removeAttribute("aria-invalid");
    this.asking = { places, confirmed };
    this.id = newId();
    this.#sum(places);
    dialog.showModal();
    /** @type {HTMLElement} */ (part(dialog, "[data-keep]")).focus();
  }

  /** @param {number[]} places */
  #title(places) {
    const { store } = this, [place] = places;
    if (places.length > 1) return say("ask_title_many", { n: count(places.length) });
    if (place < 0) return say("ask_title_run");
    return say(store.children[place] ? "ask_title_below" : "ask_title", { name: store.name(place) });
  }

  /** At and below a place: by status, and planned. @param {number} place */
  #counts(place) {
    const { store } = this;
    if (place < 0) return { own: Array.from(store.totals), rest: store.plannedRest };
    return { own: Array.from(store.below(place), (n, s) => n + (store.status[place] === s ? 1 : 0)), rest: store.rest[place] };
  }

  /** What the cancel would touch; counted anew while the question is open. @param {number[]} places */
  #sum(places) {
    const { dialog } = this;
    if (!dialog) return;
    const counts = places.map((place) => this.#counts(place));
    const own = counts.reduce((sum, one) => sum.map((n, s) => n + one.own[s]), Array.from(STATUSES, () => 0));
    const rest = counts.reduce((sum, one) => sum + one.rest, 0);
    const ended = own.reduce((sum, n, s) => (isOpen(s) ? sum : sum + n), 0);
    const lines = [["RUNNING", own[RUNNING], "ask_running"], ["PENDING", own[PENDING], "ask_pending"], ["PENDING", rest, "ask_planned"], ["SUCCESS", ended, "ask_ended"]];
    const sum = part(dialog, "[data-sum]");
    sum.replaceChildren();
    for (const [status, n, word] of /** @type {[string, number, string][]} */ (lines)) {
      if (!n) continue;
      const figure = document.createElement("b");
      figure.dataset.status = status;
      figure.textContent = count(n);
      const text = document.createElement("span");
      text.textContent = sayCount(word, n);
      sum.append(figure, text);
    }
    const open = own[RUNNING] + own[PENDING];
    this.open = open;
    part(dialog, "[data-confirm] span").textContent = sayCount("ask_button", open, count(open));
    // Which numbers, and what is to be typed, the server says (controls/question.py), and it alone decides.
    const needed = open > Number(dialog.dataset.reasonAbove);
    part(dialog, "[data-part=needed]").hidden = !needed;
    part(dialog, "[data-part=optional]").hidden = needed;
    field(dialog, "reason").setAttribute("aria-required", String(needed));
    if (open > Number(dialog.dataset.confirmAbove)) part(dialog, "[data-part=confirm]").hidden = false;
  }

  async #confirmed() {
    const { dialog, asking } = this;
    if (!dialog || !asking) return;
    const button = part(dialog, "[data-confirm]");
    if (button.getAttribute("aria-busy") === "true") return;
    const said = { id: this.id ?? newId(), reason: field(dialog, "reason").value, confirm: field(dialog, "confirm").value, confirmed: "1" };
    if (asking.confirmed) {
      if (!this.#answered(said)) return;
      dialog.close();
      return asking.confirmed(said);
    }
    const answer = await this.send(asking.places[0], CANCEL, said, button);
    if (answer.error) return this.#wrong(answer.error.message, answer.error.details?.field);
    dialog.close();
    toast(sayCount("cancelled", affected(answer.control), shown(answer.control)));
  }

  /** The tower knows of one branch at a time: of all together the page asks itself for what many want. @param {Record<string, string>} said */
  #answered(said) {
    const { trace, dialog, open } = this, { reasonAbove, confirmAbove, short } = /** @type {HTMLElement} */ (dialog).dataset;
    const typed = said.confirm.trim(), ends = [trace, trace.slice(0, Number(short)), trace.slice(-Number(short))];
    if (open > Number(reasonAbove) && !said.reason.trim()) this.#wrong(say("ask_why", { n: count(Number(reasonAbove)) }), "reason");
    else if (open > Number(confirmAbove) && !ends.includes(typed)) this.#wrong(say("ask_id", { word: trace.slice(-Number(short)) }), "confirm");
    else return true;
    return false;
  }

  /** @param {string} text @param {string | undefined} name of the field */
  #wrong(text, name) {
    const dialog = /** @type {HTMLElement} */ (this.dialog);
    const place = part(dialog, "[data-error]");
    place.textContent = text;
    place.hidden = false;
    // It may count more than this page knows of.
    if (name === "confirm") part(dialog, "[data-part=confirm]").hidden = false;
    for (const one of /** @type {NodeListOf<HTMLElement>} */ (dialog.querySelectorAll("[name]"))) {
      if (one.getAttribute("name") !== name) {
        one.removeAttribute("aria-invalid");
        continue;
      }
      one.setAttribute("aria-invalid", "true");
      one.focus();
    }
  }
}

/** Random, also on an address without https, where randomUUID is not to be had. */
export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @param {any} answer */
export function affected(answer) {
  const { pending, running } = answer.affected ?? {};
  return (parseInt(pending, 10) || 0) + (parseInt(running, 10) || 0);
}

/** @param {any} answer */
function shown(answer) {
  const { pending, running } = answer.affected ?? {};
  return count(affected(answer)) + (/\+$/.test(String(pending)) || /\+$/.test(String(running)) ? "+" : "");
}

/** @param {Element} inside @param {string} selector */
const part = (inside, selector) => /** @type {HTMLElement} */ (inside.querySelector(selector));

/** @param {Element} inside @param {string} name */
const field = (inside, name) => /** @type {HTMLInputElement} */ (inside.querySelector(`[name=${name}]`));
