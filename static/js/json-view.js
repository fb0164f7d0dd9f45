// @ts-check
/**
 * JSON to read: it folds, is searched, and is copied whole or in part. A tree of lines with one stop of the keyboard;
 * what is not looked at has no element. Whatever it is given is written as text, never as markup.
 */
import { copyText } from "./clipboard.js";
import { hostOf, linkOf, outward } from "./links.js";
import { count } from "./marks.js";
import { announce, toast } from "./voice.js";

/** Members of one place that are shown at once, and letters of one text. */
const MEMBERS = 100, LETTERS = 400;
/** Lines that a fresh view opens by itself, and those that "open all" ends at. */
const OPEN_FIRST = 40, MOST_LINES = 2_000;
/** More hits are not told apart. */
const MOST_HITS = 1_000;

/** A number that a browser can't hold; it is shown as it was written. */
class Numeral {
  /** @param {string} source */
  constructor(source) {
    this.source = source;
  }
}

/** @param {string} text JSON; throws what `JSON.parse` throws */
export function parse(text) {
  return JSON.parse(text, (/** @type {string} */ _key, /** @type {any} */ value, /** @type {{source?: string}} */ context) =>
    typeof value === "number" && context?.source !== undefined && !exact(value, context.source) ? new Numeral(context.source) : value);
}

/** @param {number} value @param {string} source */
const exact = (value, source) => !Number.isInteger(value) || Number.isSafeInteger(value) || /[.e]/i.test(source);

/** Written out with line breaks, for copying. @param {any} value @param {string} [indent] @returns {string} */
export function written(value, indent = "") {
  if (value instanceof Numeral) return value.source;
  if (!isFold(value)) return JSON.stringify(value);
  const all = membersOf(value);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  if (!all.length) return open + close;
  const inner = `${indent}  `;
  const lines = all.map(([key, one]) => `${inner}${Array.isArray(value) ? "" : `${JSON.stringify(key)}: `}${written(one, inner)}`);
  return `${open}\n${lines.join(",\n")}\n${indent}${close}`;
}

/** @param {any} value */
const isFold = (value) => typeof value === "object" && value !== null && !(value instanceof Numeral);

/** @param {any} value */
const sizeOf = (value) => (Array.isArray(value) ? value : Object.keys(value)).length;

/** @param {any} value @returns {[string | number, any][]} */
const membersOf = (value) => (Array.isArray(value) ? value.map((one, at) => [at, one]) : Object.entries(value));

/** @param {string} above @param {string | number} key */
const pathTo = (above, key) => `${above}/${String(key).replace(/~/g, "~0").replace(/\//g, "~1")}`;

/** @typedef {{path: string, above: string, key: string | number | null, value: any, level: number, at: number, of: number, more: number}} Line */

export class JsonView {
  /**
   * @param {HTMLElement} place
   * @param {(key: string, values?: Record<string, string | number>) => string} say
   */
  constructor(place, say) {
    this.place = place;
    this.say = say;
    this.pattern = /** @type {HTMLTemplateElement} */ (document.getElementById("json"));
    /** @type {string | null} */ this.text = null;
    /** @type {any} */ this.value = undefined;
    this.clear();
  }

  /** Nothing to see. */
  clear() {
    this.text = null;
    this.place.replaceChildren();
    this.place.removeAttribute("aria-busy");
  }

  /** A value that is fetched when it is asked for. @param {string} size in words @param {() => Promise<void>} get */
  offer(size, get) {
    if (this.text === size) return;
    this.text = size;
    const line = document.createElement("p"), button = document.createElement("button");
    button.type = "button";
    button.className = "b small";
    button.textContent = this.say("json_show");
    button.addEventListener("click", async () => {
      this.place.setAttribute("aria-busy", "true");
      button.disabled = true;
      await get();
      this.place.removeAttribute("aria-busy");
      button.disabled = false;
      /** @type {HTMLElement | null} */ (this.place.querySelector("[role=treeitem][tabindex='0']"))?.focus();
    });
    line.className = "muted offer";
    line.append(`${size} `, button);
    this.place.replaceChildren(line);
  }

  /** What is shown already stays as it is, with its folds. @param {string} text JSON */
  show(text) {
    if (this.text === text) return;
    this.text = text;
    this.value = parse(text);
    /** @type {Set<string>} */ this.open = new Set([""]);
    /** @type {Map<string, number>} */ this.members = new Map();
    /** @type {Set<string>} */ this.long = new Set();
    /** @type {string[]} */ this.hits = [];
    this.hit = -1;
    this.needle = "";
    this.current = "";
    this.place.replaceChildren(/** @type {Node} */ (this.pattern.content.cloneNode(true)));
    this.tree = this.#part("tree");
    this.search = /** @type {HTMLInputElement} */ (this.#part("search"));
    this.tree.setAttribute("aria-label", this.place.dataset.label ?? "");
    this.copier = this.#part("copy-line");
    this.#openFirst(OPEN_FIRST);
    this.#listen();
    this.#draw();
  }

  /** @param {string} name @returns {HTMLElement} */
  #part(name) {
    return /** @type {HTMLElement} */ (this.place.querySelector(`[data-json-part=${name}]`));
  }

  // -- which lines there are

  /** Level by level, so that a long branch does not hide its siblings. @param {number} most lines */
  #openFirst(most) {
    let lines = isFold(this.value) ? Math.min(MEMBERS, membersOf(this.value).length) : 1;
    /** @type {[string, any][]} */ let level = isFold(this.value) ? membersOf(this.value).slice(0, MEMBERS).map(([key, one]) => [pathTo("", key), one]) : [];
    while (level.length) {
      /** @type {[string, any][]} */ const next = [];
      for (const [path, value] of level) {
        if (!isFold(value)) continue;
        const inside = membersOf(value).slice(0, MEMBERS);
        if (!inside.length || lines + inside.length > most) continue;
        lines += inside.length;
        this.open.add(path);
        next.push(...inside.map(([key, one]) => /** @type {[string, any]} */ ([pathTo(path, key), one])));
      }
      level = next;
    }
  }

  /** @returns {Line[]} */
  #lines() {
    /** @type {Line[]} */ const lines = [];
    /** @param {any} value @param {string} path @param {number} level */
    const inside = (value, path, level) => {
      const all = membersOf(value), shown = Math.min(all.length, this.members.get(path) ?? MEMBERS);
      const of = all.length;
      for (let at = 0; at < shown; at++) {
        const [key, one] = all[at], here = pathTo(path, key);
        lines.push({ path: here, above: path, key, value: one, level, at: at + 1, of, more: 0 });
        if (isFold(one) && this.open.has(here)) inside(one, here, level + 1);
      }
      // No member has this path: a key with a "/" has it written as "~1".
      if (shown < all.length) lines.push({ path: `${path}//`, above: path, key: null, value: undefined, level, at: shown + 1, of, more: all.length - shown });
    };
    if (isFold(this.value)) inside(this.value, "", 1);
    else lines.push({ path: "", above: "", key: null, value: this.value, level: 1, at: 1, of: 1, more: 0 });
    return lines;
  }

  // -- drawing

  #draw() {
    this.lines = this.#lines();
    if (!this.lines.some((line) => line.path === this.current)) this.current = this.lines[0]?.path ?? "";
    const had = this.tree.contains(document.activeElement);
    this.tree.replaceChildren(...this.lines.map((line) => this.#line(line)));
    if (!this.lines.length) this.tree.textContent = Array.isArray(this.value) ? "[]" : "{}";
    this.#item()?.append(this.copier);
    if (had) this.#item()?.focus();
    const found = this.#part("found");
    found.textContent = !this.needle ? "" : this.hits.length ? this.say("json_hit", { n: count(this.hit + 1), all: `${count(this.hits.length)}${this.hits.length >= MOST_HITS ? "+" : ""}` }) : this.say("json_no_hit");
    for (const name of ["previous", "next"]) /** @type {HTMLButtonElement} */ (this.#part(name)).disabled = !this.hits.length;
    this.#part("tools").hidden = !isFold(this.value) || !this.lines.length;
  }

  /** @param {Line} line */
  #line(line) {
    const item = document.createElement("div"), { value, path } = line;
    const fold = isFold(value) && sizeOf(value) > 0;
    item.setAttribute("role", "treeitem");
    item.setAttribute("aria-level", String(line.level));
    item.setAttribute("aria-posinset", String(line.at));
    item.setAttribute("aria-setsize", String(line.of));
    if (fold) item.setAttribute("aria-expanded", String(this.open.has(path)));
    if (path === this.hits[this.hit]) item.setAttribute("aria-current", "true");
    item.tabIndex = path === this.current ? 0 : -1;
    item.dataset.path = path;
    item.style.setProperty("--level", String(line.level - 1));
    if (line.more) {
      item.append(make("span", "rest", this.say("json_more", { n: count(line.more) })));
      return item;
    }
    item.append(make("i", "fold", fold ? "▸" : ""));
    item.firstElementChild?.setAttribute("aria-hidden", "true");
    const text = make("span", "text", "");
    if (line.key !== null) text.append(this.#marked(String(line.key), "key"), make("span", "colon", ": "));
    text.append(fold ? this.#fold(value) : this.#value(value, path));
    item.append(text);
    return item;
  }

  /** How much a folded place holds. @param {any} value */
  #fold(value) {
    const n = sizeOf(value), [open, close] = Array.isArray(value) ? "[]" : "{}";
    const part = make("span", "size", "");
    const words = this.say(`${Array.isArray(value) ? "json_items" : "json_keys"}_${n === 1 ? "1" : "n"}`, { n: count(n) });
    part.append(`${open} `, make("small", "", words), ` ${close}`);
    return part;
  }

  /** @param {any} value @param {string} path */
  #value(value, path) {
    if (typeof value !== "string") {
      const kind = value instanceof Numeral ? "number" : value === null ? "null" : isFold(value) ? "nothing" : typeof value;
      return this.#marked(written(value), kind);
    }
    const part = make("span", "string", "");
    const cut = value.length > LETTERS && !this.long.has(path);
    const href = linkOf(value);
    if (href && !cut) {
      const link = outward(href, "");
      link.append(this.#marked(value, ""));
      link.tabIndex = -1;
      part.append(link, " ", make("small", "host", hostOf(href)));
      return part;
    }
    part.append('"', this.#marked(cut ? value.slice(0, LETTERS) : value, ""), cut ? "…" : '"');
    if (cut) part.append(" ", make("small", "rest", this.say("json_letters", { n: count(value.length) })));
    return part;
  }

  /** @param {string} text @param {string} name of the class */
  #marked(text, name) {
    const part = make("span", name, ""), low = text.toLowerCase(), { needle } = this;
    // Where small letters are not as many as capitals, places do not match: nothing is marked then.
    if (!needle || low.length !== text.length) {
      part.textContent = text;
      return part;
    }
    let from = 0;
    for (let at = low.indexOf(needle); at >= 0; at = low.indexOf(needle, from)) {
      part.append(text.slice(from, at), make("mark", "", text.slice(at, at + needle.length)));
      from = at + needle.length;
    }
    part.append(text.slice(from));
    return part;
  }

  /** @returns {HTMLElement | null} the line that has the stop of the keyboard */
  #item() {
    return this.tree.querySelector("[role=treeitem][tabindex='0']");
  }

  // -- searching

  /** Goes through everything, also what is folded. @param {string} needle */
  #find(needle) {
    this.needle = needle.toLowerCase();
    this.hits = [];
    this.hit = -1;
    /** @param {any} value @param {string} path */
    const look = (value, path) => {
      for (const [key, one] of membersOf(value)) {
        if (this.hits.length >= MOST_HITS) return;
        const here = pathTo(path, key);
        const texts = [Array.isArray(value) ? "" : String(key), isFold(one) ? "" : typeof one === "string" ? one : written(one)];
        if (texts.some((text) => text.toLowerCase().includes(this.needle))) this.hits.push(here);
        if (isFold(one)) look(one, here);
      }
    };
    if (this.needle && isFold(this.value)) look(this.value, "");
    if (this.hits.length) this.#go(1);
    else this.#draw();
    announce(this.#part("found").textContent);
  }

  /** @param {1 | -1} way */
  #go(way) {
    if (!this.hits.length) return;
    this.hit = (this.hit + way + this.hits.length) % this.hits.length;
    this.#reveal(this.hits[this.hit]);
    this.#draw();
    this.#item()?.scrollIntoView({ block: "nearest" });
    announce(this.#part("found").textContent);
  }

  /** Opens what lies above, as far as the place itself. @param {string} path */
  #reveal(path) {
    let value = this.value, above = "";
    for (const step of path.split("/").slice(1)) {
      const key = step.replace(/~1/g, "/").replace(/~0/g, "~");
      const at = Array.isArray(value) ? Number(key) : Object.keys(value).indexOf(key);
      if (at >= (this.members.get(above) ?? MEMBERS)) this.members.set(above, Math.ceil((at + 1) / MEMBERS) * MEMBERS);
      this.open.add(above);
      value = value[key];
      above = `${above}/${step}`;
    }
    if (typeof value === "string" && value.toLowerCase().indexOf(this.needle) > LETTERS - this.needle.length) this.long.add(path);
    this.current = path;
  }

  // -- hands

  #listen() {
    const { tree, search } = this;
    tree.addEventListener("click", (event) => this.#clicked(event));
    tree.addEventListener("keydown", (event) => this.#pressed(event));
    tree.addEventListener("copy", (event) => this.#copied(event));
    tree.addEventListener("focusin", (event) => this.#stand(/** @type {Element} */ (event.target).closest("[role=treeitem]")));
    tree.addEventListener("pointerover", (event) => this.#offerCopy(/** @type {Element} */ (event.target).closest("[role=treeitem]")));
    search.addEventListener("input", () => this.#find(search.value));
    search.addEventListener("keydown", (event) => {
      if (event.key === "Enter") this.#go(event.shiftKey ? -1 : 1);
      else if (event.key === "ArrowDown") this.#item()?.focus();
      else if (event.key === "Escape" && search.value) this.#find((search.value = ""));
      else return;
      event.preventDefault();
    });
    this.#part("tools").addEventListener("click", (event) => {
      const button = /** @type {HTMLElement | null} */ (/** @type {Element} */ (event.target).closest("button"));
      const does = /** @type {Record<string, () => void>} */ ({
        next: () => this.#go(1),
        previous: () => this.#go(-1),
        open: () => { this.#openFirst(MOST_LINES); this.#draw(); },
        close: () => { this.open = new Set([""]); this.#draw(); },
        copy: () => this.#copy(this.value),
      });
      does[button?.dataset.jsonPart ?? ""]?.();
    });
  }

  /** One button for all lines goes along. Put again where it is, it would lose the click that is on its way. @param {Element | null} item */
  #offerCopy(item) {
    if (item && this.copier.parentElement !== item) item.append(this.copier);
  }

  /** @param {Element | null} item */
  #stand(item) {
    if (!(item instanceof HTMLElement) || item.dataset.path === this.current) return;
    const before = this.#item();
    if (before) before.tabIndex = -1;
    item.tabIndex = 0;
    this.#offerCopy(item);
    this.current = item.dataset.path ?? "";
  }

  /** @param {Element} item */
  #lineOf(item) {
    return this.lines.find((line) => line.path === /** @type {HTMLElement} */ (item).dataset.path);
  }

  /** @param {MouseEvent} event */
  #clicked(event) {
    const at = /** @type {Element} */ (event.target), item = at.closest("[role=treeitem]");
    const line = item && this.#lineOf(item);
    if (!line || at.closest("a")) return;
    if (at.closest("[data-json-part=copy-line]")) return void this.#copy(line.value);
    if (String(getSelection()) !== "") return; // somebody marks a text
    if (line.more || (at.closest(".rest, .fold, .key, .size") && this.#opens(line))) this.#act(line);
  }

  /** @param {Line} line */
  #opens(line) {
    return isFold(line.value) || (typeof line.value === "string" && line.value.length > LETTERS);
  }

  /** Open or fold, or show the rest. @param {Line} line */
  #act(line) {
    if (line.more) {
      const shown = this.members.get(line.above) ?? MEMBERS;
      this.members.set(line.above, shown + MEMBERS);
      this.#draw();
      // On to the first that is new: it stands where the line was that is gone.
      return this.#focus(this.lines.filter((one) => one.above === line.above)[shown]?.path);
    }
    const set = isFold(line.value) ? this.open : this.long;
    if (!this.#opens(line)) {
      const href = linkOf(line.value);
      if (href) /** @type {HTMLElement | null} */ (this.#item()?.querySelector("a"))?.click();
      return;
    }
    set.has(line.path) ? set.delete(line.path) : set.add(line.path);
    this.current = line.path;
    this.#draw();
  }

  /** @param {string | undefined} path */
  #focus(path) {
    if (path === undefined) return;
    const item = [...this.tree.children].find((one) => /** @type {HTMLElement} */ (one).dataset.path === path);
    if (!item) return;
    this.#stand(item);
    /** @type {HTMLElement} */ (item).focus();
  }

  /** @param {KeyboardEvent} event */
  #pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !(/** @type {Element} */ (event.target).matches("[role=treeitem]"))) return;
    const at = this.lines.findIndex((line) => line.path === this.current), line = this.lines[at];
    if (!line) return;
    const folds = isFold(line.value) && sizeOf(line.value) > 0, open = this.open.has(line.path);
    const does = /** @type {Record<string, () => void>} */ ({
      ArrowDown: () => this.#focus(this.lines[at + 1]?.path),
      ArrowUp: () => this.#focus(this.lines[at - 1]?.path),
      Home: () => this.#focus(this.lines[0].path),
      End: () => this.#focus(this.lines[this.lines.length - 1].path),
      ArrowRight: () => (folds && open ? this.#focus(this.lines[at + 1]?.path) : folds && this.#act(line)),
      ArrowLeft: () => (folds && open ? this.#act(line) : this.#focus(line.above || undefined)),
      Enter: () => this.#act(line),
      " ": () => this.#act(line),
      "/": () => this.search.focus(),
      c: () => !line.more && this.#copy(line.value),
    })[event.key];
    if (!does) return;
    event.preventDefault();
    event.stopPropagation(); // "/" would lead on to the search of the page
    does();
  }

  /** With nothing marked, the browser's own copy takes the line. @param {ClipboardEvent} event */
  #copied(event) {
    const line = this.lines.find((one) => one.path === this.current);
    if (String(getSelection()) !== "" || !line || line.more) return;
    event.clipboardData?.setData("text/plain", plain(line.value));
    event.preventDefault();
    toast(this.say("copied"), { seconds: 3 });
  }

  /** @param {any} value */
  async #copy(value) {
    if (await copyText(plain(value))) toast(this.say("copied"), { seconds: 3 });
  }
}

/** A text is copied as it is, anything else as JSON. @param {any} value */
const plain = (value) => (typeof value === "string" ? value : written(value));

/** @param {string} tag @param {string} name @param {string} text */
function make(tag, name, text) {
  const part = document.createElement(tag);
  if (name) part.className = name;
  part.textContent = text;
  return part;
}
