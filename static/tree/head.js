// @ts-check
/** The head of the page: status, sums, how long, what is asked of whom. */
import { count, paintStack, span, when } from "../js/marks.js";
import { now } from "./clock.js";
import { point } from "./rows.js";
import { ACTIONS, CANCEL, FAILED, PAUSE, RUN, RUNNING, STATUSES } from "./store.js";
import { say, sayCount } from "./words.js";

/** Before the title, as the statuses have their shapes. @type {Record<string, string>} */
const SIGNS = { PENDING: "○", RUNNING: "▶", PAUSED: "⏸", SUCCESS: "✓", FAILED: "✕", CANCELLED: "⊘", SKIPPED: "»" };

export class Head {
  /** @param {HTMLElement} page @param {import("./store.js").Store} store */
  constructor(page, store) {
    this.page = page;
    this.store = store;
    /** What a tab in the background tells of, whatever the page shows. */
    this.live = store;
    this.part = (/** @type {string} */ selector) => /** @type {any} */ (page.querySelector(selector));
    this.pattern = /** @type {HTMLTemplateElement} */ (document.getElementById("notice"));
    /** Who asked, by the number of the control. @type {Map<number, any>} */ this.asked = new Map();
    this.plainTitle = page.dataset.title ?? "";
    this.icon = /** @type {HTMLLinkElement | null} */ (document.querySelector("link[rel=icon]"));
    this.drawn = "";
  }

  /** @param {Map<number, any>} asked */
  setAsked(asked) {
    this.asked = asked;
    this.drawn = "";
    this.draw();
  }

  draw() {
    const { store } = this;
    const totals = store.totals.join();
    const key = `${totals}|${store.plannedRest}|${store.epoch}|${store.root < 0 ? "" : store.stamp[store.root]}`;
    if (key !== this.drawn) {
      this.drawn = key;
      this.#counts();
      this.#status();
      this.#notices();
      this.tick();
    }
  }

  #counts() {
    const { store, part } = this;
    const counts = Object.fromEntries(STATUSES.map((name, s) => [name, store.totals[s]]));
    paintStack(part("[data-counts] .stack"), counts, store.plannedRest);
    for (const item of /** @type {NodeListOf<HTMLElement>} */ (this.page.querySelectorAll(".legend li"))) {
      const n = counts[/** @type {string} */ (item.dataset.status)];
      item.hidden = !n;
      set(item.querySelector("b"), count(n));
    }
    set(part("[data-total]"), count(store.total));
    set(part("[data-tasks]"), sayCount("tasks", store.total));
    part("[data-planned]").hidden = !store.plannedRest;
    set(part("[data-planned] b"), count(store.plannedRest));
    set(part("[data-running]"), count(store.totals[RUNNING]));
    const failures = part("[data-failures]");
    failures.hidden = !store.totals[FAILED];
    set(failures.querySelector("[data-count]"), count(store.totals[FAILED]));
  }

  #status() {
    const { store, part } = this;
    const status = store.root < 0 ? RUNNING : store.status[store.root];
    const progress = store.root >= 0 && status === RUNNING && !Number.isNaN(store.progress[store.root]) ? ` ${Math.round(store.progress[store.root])} %` : "";
    part("[data-head] .title").dataset.status = STATUSES[status];
    point(part("[data-pill] use"), STATUSES[status]);
    set(part("[data-pill] span"), say(`status_${STATUSES[status]}`) + progress);
    if (!store.past) this.tab(status, progress.trim());
  }

  /** What a tab in the background can show: failures first. @param {number} status @param {string} [progress] */
  tab(status, progress = "") {
    const store = this.live, failed = store.totals[FAILED], name = STATUSES[status];
    const paused = !failed && store.stillOpen(-1) > 0 && store.askedHere(-1) === PAUSE;
    const state = failed ? "FAILED" : paused ? "PAUSED" : name;
    const sign = failed ? `✕ ${say("title_failed", { n: count(failed) })}` : [SIGNS[state], state === "RUNNING" ? progress : ""].filter(Boolean).join(" ");
    const title = `${sign} · ${this.plainTitle}`;
    if (document.title !== title) document.title = title;
    const icon = this.page.dataset[`icon${state[0]}${state.slice(1).toLowerCase()}`];
    if (this.icon && icon && this.icon.getAttribute("href") !== icon) this.icon.setAttribute("href", icon);
  }

  /** Once a second too: time goes on without any event. */
  tick() {
    const { store } = this;
    const place = this.part("[data-span]");
    const start = store.from;
    if (!Number.isFinite(start)) return set(place, say("not_started"));
    // Its root tells, as in the list of runs, whatever is still open below it.
    const end = store.root < 0 ? NaN : store.end[store.root], open = Number.isNaN(end);
    const label = say(open ? "running_for" : "took");
    let figure = place.querySelector("b");
    if (!figure || place.firstChild.textContent.trim() !== label) {
      figure = document.createElement("b");
      figure.className = "num";
      place.replaceChildren(`${label} `, figure);
    }
    delete figure.dataset.since;
    set(figure, span((open ? now() : end) - start));
  }

  #notices() {
    const { store } = this;
    const place = this.part("[data-notices]");
    const wanted = [...store.intents].filter(([at, { action }]) => action !== RUN && store.stillOpen(at) > 0)
      .sort(([, a], [, b]) => b.number - a.number);
    wanted.forEach(([at, { action, number }], index) => {
      const old = place.children[index];
      const notice = old ?? place.appendChild(this.pattern.content.firstElementChild?.cloneNode(true));
      this.#notice(notice, at, action, number);
    });
    while (place.children.length > wanted.length) place.lastElementChild.remove();
  }

  /** @param {HTMLElement} notice @param {number} at @param {number} action @param {number} number */
  #notice(notice, at, action, number) {
    const { store } = this;
    const part = (/** @type {string} */ selector) => /** @type {any} */ (notice.querySelector(selector));
    const name = at < 0 ? "" : store.name(at);
    const { acting, holding } = store.obeying(at), held = action === PAUSE && acting === holding;
    const what = action === CANCEL ? "cancelling" : held ? "is_paused" : "pausing";
    notice.dataset.action = ACTIONS[action];
    notice.dataset.done = String(held);
    point(part("use"), action === CANCEL ? "stop" : "pause");
    set(part("[data-what]"), name ? say(what, { name }) : say(`${what}_run`));
    set(part("[data-how]"), action === CANCEL ? sayCount("still_runs", acting, count(acting)) : acting ? say("hold", { holding: count(holding), acting: count(acting) }) : say("hold_none"));
    const meter = part("progress");
    meter.hidden = action !== PAUSE || !acting;
    meter.max = acting || 1;
    meter.value = holding;
    const who = part("[data-who]"), record = this.asked.get(number);
    if (record) {
      const reason = record.reason ? `: “${record.reason}”` : "";
      const late = record.delivered ? "" : ` — ${say("undelivered")}`;
      set(who, say("asked_by", { name: record.triggered_by, time: when(Date.parse(record.created_at)) }) + reason + late);
    } else if (!who.querySelector("time[datetime]:not([datetime=''])")) who.textContent = "";
    const show = part("[data-show]"), next = part("[data-step]");
    show.hidden = at < 0;
    if (at >= 0) {
      show.href = `?node=${encodeURIComponent(store.ids[at] ?? "")}`;
      next.dataset.inside = store.ids[at] ?? "";
    } else delete next.dataset.inside;
    next.hidden = acting === holding;
  }
}

/** @param {any} part @param {string} text */
function set(part, text) {
  if (part && part.textContent !== text) part.textContent = text;
}

