// @ts-check
/** All about the selected task. State comes from the store at once, texts are fetched; all of it is text, never markup. */
import { JsonView, parse, written } from "../js/json-view.js";
import { hostOf, linkOf, outward } from "../js/links.js";
import { brief, count, paintTime, span, when } from "../js/marks.js";
import { announce } from "../js/voice.js";
import { now } from "./clock.js";
import { PaneSize } from "./pane-size.js";
import { point } from "./rows.js";
import { CANCEL, DIFFERS, FAILED, HOLDS, KINDS, PLACEHOLDER, RUN, STATUSES, UNATTACHED, isAggregator, isOpen } from "./store.js";
import { Told } from "./told.js";
import { say } from "./words.js";

/** A task that changes all the time is asked for this often. */
const REFETCH_MS = 400;
/** Pixels between the last tab and the edge. */
const TAB_EDGE = 12;
const EVENTS = 100;
/** More letters of parameters are fetched only where somebody asks for them. */
const PARAMETERS = 16_000;
/** What is fetched again and again: all that is small, and changes. */
const FIELDS = "message,worker,error_code,error_msg,output_ref,job_id,job_version,labels,reported_status";
/** The colour of a report's dot is that of the status that it speaks of. */
const SPEAKS_OF = { STARTED: "RUNNING", PROGRESS: "RUNNING", COMPLETED: "SUCCESS", FAILED: "FAILED", CANCELLED: "CANCELLED" };

export class DetailPane {
  /**
   * @param {HTMLElement} page @param {import("./store.js").Store} store
   * @param {{select: (n: number) => void, close: () => void}} does
   */
  constructor(page, store, does) {
    this.pane = /** @type {HTMLElement} */ (page.querySelector("[data-pane]"));
    this.store = store;
    this.does = does;
    this.trace = page.dataset.trace ?? "";
    this.tasks = page.dataset.tasks ?? "";
    this.n = -1;
    this.stamp = -1;
    this.epoch = -1;
    this.tab = /** @type {HTMLElement | null} */ (this.pane.querySelector("[role=tab][aria-selected=true]"))?.dataset.tab ?? "overview";
    /** @type {any} */ this.task = null;
    /** @type {any[]} */ this.controls = [];
    this.pattern = /** @type {HTMLTemplateElement} */ (document.getElementById("event"));
    this.told = new Told(this.pane, page.dataset.told ?? "", () => this.#hasTold());
    this.logUrl = page.dataset.log ?? "";
    this.seq = -1;
    this.size = new PaneSize(this.pane);
    this.parameters = new JsonView(this.#json("parameters"), say);
    this.output = new JsonView(this.#json("output"), say);
    /** How many letters the parameters shown had; more come with the registration. */
    this.sized = -1;
    /** @type {WeakMap<Element, JsonView>} */ this.views = new WeakMap();
    /** @type {WeakMap<Element, any>} */ this.payloads = new WeakMap();
    /** Where the last page of reports begins, and how many rows stand before it. */
    this.log = { url: "", before: 0, next: "" };
    this.pane.addEventListener("click", (event) => this.#clicked(event));
    this.pane.addEventListener("keydown", (event) => this.#pressed(event));
    this.pane.addEventListener("toggle", (event) => this.#unfolded(/** @type {HTMLElement} */ (event.target)), true);
  }

  get open() {
    return !this.pane.hidden;
  }

  /** @param {string} name */
  field(name) {
    return /** @type {HTMLElement} */ (this.pane.querySelector(`[data-field=${name}]`));
  }

  /** @param {string} name */
  part(name) {
    return /** @type {HTMLElement} */ (this.pane.querySelector(`[data-part=${name}]`));
  }

  /** @param {string} name @returns {HTMLElement} */
  #json(name) {
    return /** @type {HTMLElement} */ (this.pane.querySelector(`[data-json=${name}]`));
  }

  /** @param {string} name */
  list(name) {
    return /** @type {HTMLElement} */ (this.pane.querySelector(`[data-list=${name}]`));
  }

  /** @param {number} n -1 closes */
  show(n) {
    this.pane.hidden = n < 0;
    this.pane.parentElement?.classList.toggle("split", n >= 0);
    this.size.draw();
    if (n === this.n) return;
    this.n = n;
    this.sized = -1;
    this.parameters.clear();
    this.stamp = this.epoch = -1;
    this.task = null;
    this.was = n < 0 ? -1 : this.store.status[n];
    this.log = { url: "", before: 0, next: "" };
    this.told.show(n < 0 ? undefined : this.store.ids[n]);
    if (n < 0) return;
    const id = this.store.ids[n] ?? "";
    for (const form of /** @type {NodeListOf<HTMLFormElement>} */ (this.pane.querySelectorAll("form[data-control]"))) {
      form.dataset.for = id;
      /** @type {HTMLInputElement} */ (form.elements.namedItem("task_id")).value = id;
    }
    for (const tab of /** @type {NodeListOf<HTMLAnchorElement>} */ (this.pane.querySelectorAll("[role=tab]"))) {
      tab.href = `?node=${encodeURIComponent(id)}&tab=${tab.dataset.tab}`;
    }
    for (const name of ["message", "worker", "error_code", "error_msg"]) this.field(name).textContent = "";
    this.list("notes").replaceChildren();
    this.list("labels").replaceChildren();
    this.#output(null);
    this.list("events").replaceChildren();
    /** @type {HTMLAnchorElement} */ (this.pane.querySelector("[data-link=log]")).href = `${this.logUrl}?task_id=${encodeURIComponent(id)}`;
    this.part("no-output").hidden = this.part("no-events").hidden = true;
    this.draw();
    this.#choose(this.tab);
  }

  /** With each frame: writes only if this task, or what is asked, has changed. */
  draw() {
    const { store, n } = this;
    if (n < 0) return;
    // What an aggregator waits for stands beside it, or anywhere: any change may be one of it.
    if (this.seq !== store.seq && isAggregator(store.kind[n])) this.#later();
    this.seq = store.seq;
    if (this.stamp === store.stamp[n] && this.epoch === store.epoch) return;
    this.stamp = store.stamp[n];
    this.epoch = store.epoch;
    const status = STATUSES[store.status[n]], over = store.over[n], asked = store.asked(n);
    this.pane.dataset.status = status;
    point(/** @type {any} */ (this.pane.querySelector("h2 use")), status);
    set(this.field("name"), store.name(n));
    set(this.field("id"), store.ids[n] ?? "");
    set(this.field("kind"), KINDS[store.kind[n]]);
    set(this.field("word"), say(`status_${status}`));
    this.part("asked").hidden = asked === RUN || !store.stillOpen(n);
    point(/** @type {any} */ (this.part("asked").querySelector("use")), asked === CANCEL ? "stop" : "pause");
    set(this.field("asked"), say(asked === CANCEL ? "cancel_asked" : "pause_asked"));
    this.part("holds").hidden = !(over & HOLDS);
    this.part("then").hidden = !store.past;
    set(this.field("attempt"), store.attempt[n] ? String(store.attempt[n]) : "—");
    const progress = store.progress[n];
    set(this.field("progress"), Number.isNaN(progress) ? "" : `${Math.round(progress)} %`);
    this.#time("started", store.start[n]);
    this.#time("finished", store.end[n]);
    this.#path();
    this.tick();
    this.#notes();
    if (!store.past && this.was !== store.status[n] && store.status[n] === FAILED) announce(say("selected_failed", { name: store.name(n) }), true);
    this.was = store.status[n];
    // What is fetched is of now, and does not change with the moment that is shown.
    if (!store.past || !this.task) this.#later();
  }

  /** Once a second. */
  tick() {
    const { store, n } = this;
    if (n < 0) return;
    const start = store.start[n], end = store.end[n];
    const until = Number.isNaN(end) ? (isOpen(store.status[n]) ? now() : NaN) : end;
    set(this.field("duration"), Number.isNaN(start) || Number.isNaN(until) ? "—" : span(until - start));
    const all = Math.max(store.split[n], store.kids[n]);
    if (!all) return set(this.field("children"), "");
    let ended = 0;
    for (let c = store.first[n]; c >= 0; c = store.next[c]) if (store.kind[c] !== 1 && !isOpen(store.status[c])) ended++;
    set(this.field("children"), say("children", { ended: count(ended), all: count(all) }));
  }

  /** @param {string} name @param {number} ms */
  #time(name, ms) {
    const part = /** @type {HTMLElement} */ (this.pane.querySelector(`[data-time=${name}]`));
    paintTime(part, Number.isNaN(ms) ? null : ms);
    if (Number.isNaN(ms)) part.textContent = "—";
  }

  #path() {
    const { store, n } = this;
    const way = store.path(n);
    const key = way.join();
    const place = this.list("path");
    if (place.dataset.way === key) return;
    place.dataset.way = key;
    place.replaceChildren(...way.map((at) => {
      const link = document.createElement("a");
      link.href = `?node=${encodeURIComponent(store.ids[at] ?? "")}`;
      link.dataset.go = String(at);
      link.textContent = store.name(at);
      return link;
    }));
  }

  #notes() {
    const { store, n } = this;
    const lines = [];
    const error = [this.task?.error_code, this.task?.error_msg].filter(Boolean).join(" — ");
    const asked = store.asked(n);
    if (asked !== RUN && store.stillOpen(n) && store.askedHere(n) !== asked) {
      const at = store.askedAt(n, asked);
      const name = at === null || at < 0 ? say("whole_run") : store.name(at);
      lines.push(say(asked === CANCEL ? "cancelled_by" : "held_by", { name }));
    }
    const reported = this.task?.reported_status;
    const differs = (store.over[n] & DIFFERS) !== 0;
    this.part("reported").hidden = !differs || !reported;
    if (differs && reported) {
      const word = say(`status_${reported}`).toLowerCase();
      set(this.field("reported"), say("reported", { status: word }));
    }
    if (store.over[n] & UNATTACHED && store.parent[n] < 0) lines.push(say("no_parent"));
    if (store.over[n] & PLACEHOLDER) lines.push(say("not_registered"));
    const place = this.list("notes");
    if (place.textContent === error + lines.join("")) return;
    place.replaceChildren(...lines.map((line) => Object.assign(document.createElement("li"), { textContent: line })));
    if (error) place.prepend(Object.assign(document.createElement("li"), { textContent: error, className: "bad" }));
  }

  // -- what is fetched

  #later() {
    if (this.waiting) return;
    this.waiting = setTimeout(() => {
      this.waiting = undefined;
      this.#fetchTask();
      this.told.refresh();
      if (this.tab === "events") this.#fetchEvents();
    }, this.task ? REFETCH_MS : 0);
  }

  /** @param {string} url @returns {Promise<any>} null where it could not be had */
  async #get(url) {
    try {
      const response = await fetch(url, { headers: { Accept: "application/json" }, credentials: "same-origin" });
      return response.ok ? await response.json() : null;
    } catch {
      return null;
    }
  }

  async #fetchTask() {
    const n = this.n, id = this.store.ids[n];
    if (n < 0 || id === undefined) return;
    const task = await this.#get(`${this.tasks}${encodeURIComponent(id)}/?trace_id=${encodeURIComponent(this.trace)}&fields=${FIELDS}`);
    if (n !== this.n || !task) return;
    this.task = task;
    set(this.field("message"), task.message ?? "");
    set(this.field("worker"), task.worker ?? "");
    set(this.field("error_code"), task.error_code ?? "");
    set(this.field("error_msg"), task.error_msg ?? "");
    this.#offerError(Boolean(task.error_code || task.error_msg));
    this.part("version").hidden = task.job_version == null;
    set(this.field("version"), String(task.job_version ?? ""));
    const definition = /** @type {HTMLAnchorElement} */ (this.pane.querySelector("[data-link=definition]"));
    definition.hidden = !task.job_id;
    if (task.job_id) {
      definition.href = `/definitions/${encodeURIComponent(task.job_id)}/`;
      set(definition, task.job_id);
    }
    this.list("labels").replaceChildren(...Object.entries(task.labels ?? {}).flatMap(([key, value]) => [
      Object.assign(document.createElement("dt"), { textContent: key }), Object.assign(document.createElement("dd"), { textContent: String(value) })]));
    this.#output(task.output_ref);
    this.#notes();
    this.#hasTold();
  }

  /** @param {string | null} ref */
  #output(ref) {
    const place = this.list("output"), host = this.part("host"), href = linkOf(ref);
    this.part("no-output").hidden = ref !== null;
    host.hidden = !href;
    if (place.textContent === (ref ?? "")) return;
    place.replaceChildren();
    this.output.clear();
    if (ref === null) return;
    if (jsonIn(ref)) return this.output.show(ref);
    place.append(href ? outward(href, ref) : Object.assign(document.createElement("code"), { textContent: ref }));
    if (href) set(host, say("host", { host: hostOf(href) }));
  }

  /** What the server's sentences bring along. */
  #hasTold() {
    this.#offerJoin();
    const alike = /** @type {HTMLAnchorElement} */ (this.pane.querySelector("[data-link=alike]")), code = this.task?.error_code ?? "";
    alike.hidden = !this.list("alike").children.length || !code || code.includes('"');
    const query = new URLSearchParams({ node: this.store.ids[this.n] ?? "", tab: "error", q: `error:"${code}"` });
    alike.href = `?${query}`;
    if (this.tab === "parameters") this.#parameters();
  }

  /** They stand as registered; only a task that was heard of before has them later. */
  #parameters() {
    const size = this.told.parameters;
    if (!this.told.known || size === this.sized) return;
    this.sized = size;
    if (size <= PARAMETERS) this.#fetchParameters();
    else this.parameters.offer(say("json_size", { n: count(size) }), () => this.#fetchParameters());
  }

  async #fetchParameters() {
    const n = this.n, id = this.store.ids[n] ?? "";
    try {
      const url = `${this.tasks}${encodeURIComponent(id)}/?trace_id=${encodeURIComponent(this.trace)}&fields=input_params`;
      const response = await fetch(url, { headers: { Accept: "application/json" }, credentials: "same-origin" });
      if (!response.ok) throw new Error(String(response.status));
      const text = await response.text();
      // As text: numbers that a browser can't hold stay as they were written.
      if (n === this.n) this.parameters.show(partOf(text, "input_params"));
    } catch {
      if (n !== this.n) return;
      this.sized = -1;
      announce(say("not_loaded"));
    }
  }

  async #fetchEvents(more = false) {
    const n = this.n, id = this.store.ids[n];
    if (n < 0 || id === undefined || this.fetching === n) return;
    this.fetching = n;
    const list = this.list("events");
    if (more && this.log.next) this.log = { url: this.log.next, before: list.children.length, next: "" };
    const url = this.log.url || `${this.tasks}${encodeURIComponent(id)}/events/?trace_id=${encodeURIComponent(this.trace)}&limit=${EVENTS}`;
    const page = await this.#get(url);
    this.fetching = -1;
    if (n !== this.n || !page) return;
    this.log.url = url;
    this.log.next = page.next ?? "";
    page.results.forEach((/** @type {any} */ event, /** @type {number} */ at) => {
      const place = list.children[this.log.before + at] ?? list.appendChild(/** @type {Element} */ (this.pattern.content.firstElementChild).cloneNode(true));
      paintEvent(/** @type {HTMLElement} */ (place), event);
      this.payloads.set(place, event.payload ?? {});
      this.#unfolded(/** @type {HTMLElement} */ (place.querySelector("details")));
    });
    this.part("no-events").hidden = list.children.length > 0;
    /** @type {HTMLElement} */ (this.pane.querySelector("[data-more=events]")).hidden = !this.log.next;
  }

  /** A payload is written out only where somebody looks; it may have 64 KiB. @param {HTMLElement} fold */
  #unfolded(fold) {
    const payload = fold.matches("[data-part=payload][open]") && this.payloads.get(/** @type {Element} */ (fold.closest("li")));
    if (!payload) return;
    const place = /** @type {HTMLElement} */ (fold.querySelector("[data-json=payload]"));
    const view = this.views.get(place) ?? new JsonView(place, say);
    this.views.set(place, view);
    view.show(JSON.stringify(payload));
  }

  /** The controls of this trace, newest first. @param {any[]} controls */
  setControls(controls) {
    this.controls = controls;
    if (this.n >= 0) this.#controls();
  }

  #controls() {
    const above = new Set(this.store.path(this.n).map((n) => this.store.ids[n]));
    const mine = this.controls.filter((one) => one.task_id === null || above.has(one.task_id));
    this.part("no-controls").hidden = mine.length > 0;
    this.list("controls").replaceChildren(...mine.map((one) => {
      const item = /** @type {HTMLElement} */ (/** @type {Element} */ (this.pattern.content.firstElementChild).cloneNode(true));
      item.dataset.kind = one.action;
      const dot = /** @type {HTMLElement} */ (item.querySelector("i"));
      dot.className = "ctl";
      dot.removeAttribute("data-status");
      paintTime(item.querySelector("time"), Date.parse(one.created_at));
      const of = one.task_id === null ? say("whole_run") : this.store.name(this.store.find(one.task_id)) || one.task_id;
      set(within(item, "what"), `${say(one.action)} · ${of}`);
      const taken = one.outcome === undefined || one.outcome === "taken";
      set(within(item, "verdict"), taken ? (one.delivered ? say("delivered") : say("undelivered")) : say("refused", { code: one.outcome }));
      set(within(item, "text"), [say("by_name", { name: one.triggered_by }), one.reason && `“${one.reason}”`].filter(Boolean).join(" · "));
      return item;
    }));
  }

  // -- tabs

  #offerJoin() {
    const joins = /** @type {HTMLElement} */ (this.pane.querySelector("[data-tab=join]"));
    joins.hidden = this.told.known && !this.told.joins;
    if (joins.hidden && this.tab === "join") this.#choose("overview");
  }

  /** Not before its texts are here: an address may ask for this tab. @param {boolean} failed */
  #offerError(failed) {
    const tab = /** @type {HTMLElement} */ (this.pane.querySelector("[data-tab=error]"));
    tab.hidden = !failed;
    if (!failed && this.tab === "error") this.#choose("overview");
  }

  /** @param {string} name */
  #choose(name) {
    this.tab = name;
    for (const tab of /** @type {NodeListOf<HTMLElement>} */ (this.pane.querySelectorAll("[role=tab]"))) {
      const chosen = tab.dataset.tab === name;
      tab.setAttribute("aria-selected", String(chosen));
      if (chosen) tab.removeAttribute("tabindex");
      else tab.tabIndex = -1;
      const panel = document.getElementById(tab.getAttribute("aria-controls") ?? "");
      if (panel) panel.hidden = !chosen;
      // Not scrollIntoView: that would scroll the page too.
      const row = /** @type {HTMLElement} */ (tab.parentElement), left = tab.offsetLeft - row.offsetLeft;
      if (chosen) row.scrollLeft = Math.max(Math.min(row.scrollLeft, left), left + tab.offsetWidth - row.clientWidth + TAB_EDGE);
    }
    if (name === "events") this.#fetchEvents();
    if (name === "controls") this.#controls();
    if (name === "parameters") this.#parameters();
  }

  /** As chosen by a reader: the address follows. @param {string} name */
  #turnTo(name) {
    this.#choose(name);
    const query = new URLSearchParams(location.search);
    if (name === "overview") query.delete("tab");
    else query.set("tab", name);
    history.replaceState(null, "", query.size ? `?${query}` : location.pathname);
  }

  /** @param {MouseEvent} event */
  #clicked(event) {
    const at = /** @type {Element} */ (event.target);
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    const tab = /** @type {HTMLElement | null} */ (at.closest("[role=tab]"));
    const go = /** @type {HTMLElement | null} */ (at.closest("[data-list=path] a"));
    const named = /** @type {HTMLElement | null} */ (at.closest("a[data-task]"));
    if (tab) {
      event.preventDefault();
      this.#turnTo(tab.dataset.tab ?? "overview");
    } else if (at.closest("[data-close]")) {
      event.preventDefault();
      this.does.close();
    } else if (go) {
      event.preventDefault();
      this.does.select(Number(go.dataset.go));
    } else if (named) {
      const n = this.store.find(named.dataset.task ?? "");
      if (n < 0) return;
      event.preventDefault();
      this.does.select(n);
    } else if (at.closest("[data-more=results]")) {
      event.preventDefault();
      this.told.more();
    } else if (at.closest("[data-more=events]")) this.#fetchEvents(true);
  }

  /** @param {KeyboardEvent} event */
  #pressed(event) {
    const tab = /** @type {HTMLElement | null} */ (/** @type {Element} */ (event.target).closest("[role=tab]"));
    if (!tab || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === " ") {
      event.preventDefault(); // a link, but as a tab it takes what a button takes
      return this.#turnTo(tab.dataset.tab ?? "overview");
    }
    const tabs = /** @type {HTMLElement[]} */ ([...this.pane.querySelectorAll("[role=tab]:not([hidden])")]);
    const at = tabs.indexOf(tab);
    const to = { ArrowLeft: at - 1 + tabs.length, ArrowRight: at + 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = tabs[to % tabs.length];
    this.#turnTo(next.dataset.tab ?? "overview");
    next.focus();
  }

  focus() {
    /** @type {HTMLElement} */ (this.pane.querySelector("h2")).focus();
  }
}

/** @param {HTMLElement} item @param {any} event */
function paintEvent(item, event) {
  item.dataset.kind = event.event_type;
  item.dataset.verdict = event.verdict;
  const time = /** @type {HTMLTimeElement} */ (item.querySelector("time"));
  paintTime(time, Date.parse(event.received_at));
  time.title = say("said_at", { time: new Date(event.timestamp_ms).toISOString() });
  /** @type {HTMLElement} */ (item.querySelector("i")).dataset.status = /** @type {any} */ (SPEAKS_OF)[event.event_type] ?? "PENDING";
  set(within(item, "what"), event.event_type);
  const verdict = say(`verdict_${event.verdict}`);
  set(within(item, "verdict"), [event.origin === "tower" ? say("by_tower") : "", verdict].filter(Boolean).join(" · "));
  set(within(item, "attempt"), event.attempt > 1 ? say("attempt", { n: count(event.attempt) }) : "");
  set(within(item, "skew"), event.origin === "tower" ? "" : say("clock", { skew: skew(event.skew_ms) }));
  const why = event.reason;
  set(within(item, "why"), why ? say(`reason_${why.code}`, { at: why.at ? when(Date.parse(why.at)) : say("an_earlier_one"), attempt: numberIn(why.message) }) : "");
  const said = event.payload ?? {};
  /** @type {HTMLElement} */ (item.querySelector("[data-part=payload]")).hidden = !Object.keys(said).length;
  const progress = typeof said.progress === "number" ? `${Math.round(said.progress)} %` : null;
  set(within(item, "text"), [progress, said.message, said.error_code, said.error_msg, said.output_ref].filter((one) => one != null && one !== "").map(String).join(" · "));
}

/** The attempt that a reason names; it has no other number beside its instant. @param {string} message */
function numberIn(message) {
  return /\d+/.exec(message)?.[0] ?? "";
}

/** As instances.sentences.skew: +3.2 s, −4:12. @param {number} ms */
function skew(ms) {
  return (ms > 0 ? "+" : "−") + brief(Math.abs(ms));
}

/** Whether an output is itself JSON, and not a place where one is. @param {string} ref */
function jsonIn(ref) {
  if (ref[0] !== "{" && ref[0] !== "[") return false;
  try {
    JSON.parse(ref);
    return true;
  } catch {
    return false;
  }
}

/** The JSON text of one member of an answer that holds this and an id. @param {string} text @param {string} name */
function partOf(text, name) {
  return written(parse(text)[name]);
}

/** @param {Element} item @param {string} name */
const within = (item, name) => item.querySelector(`[data-field=${name}]`);

/** @param {any} part @param {string} text */
function set(part, text) {
  if (part && part.textContent !== text) part.textContent = text;
}
