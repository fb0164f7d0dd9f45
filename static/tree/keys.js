// @ts-check
/** One table of keys: it binds them and it fills the sheet, so that the two cannot differ. */
import { say } from "./words.js";

/** @typedef {Record<string, (key: string) => void>} Deeds */

/** Keys, deed, words; without a deed the browser or another listener acts. @type {[string[], string | null, string][]} */
export const KEYS = [
  [["ArrowUp", "k"], "up", "key_up"],
  [["ArrowDown", "j"], "down", "key_down"],
  [["ArrowRight"], "right", "key_right"],
  [["ArrowLeft"], "left", "key_left"],
  [["["], "earlier", "key_sibling"],
  [["]"], "later", "key_sibling"],
  [["u"], "parent", "key_parent"],
  [["Home", "t"], "home", "key_home"],
  [["End"], "end", "key_end"],
  [["PageUp"], "pageUp", "key_page"],
  [["PageDown"], "pageDown", "key_page"],
  [["n"], "nextFailed", "key_failed"],
  [["N"], "lastFailed", "key_failed"],
  [["g"], "nextRunning", "key_running"],
  [["G"], "lastRunning", "key_running"],
  [["s"], "nextStuck", "key_stuck"],
  [["S"], "lastStuck", "key_stuck"],
  [["/"], null, "key_search"],
  [["Control+K"], null, "key_palette"],
  [["e"], "openBelow", "key_open_below"],
  [["w"], "foldBelow", "key_fold_below"],
  [["*"], "openSiblings", "key_open_siblings"],
  [["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"], "level", "key_level"],
  [[" "], "mark", "key_mark"],
  [["Shift+ArrowUp"], "markUp", "key_reach"],
  [["Shift+ArrowDown"], "markDown", "key_reach"],
  [["Enter"], "enter", "key_enter"],
  [["Escape"], "escape", "key_escape"],
  [["l"], "follow", "key_follow"],
  [["i"], "path", "key_path"],
  [["I"], "pathRows", "key_path_rows"],
  [["x"], "idle", "key_idle"],
  [["m"], "map", "key_map"],
  [["h"], "past", "key_past"],
  [["<"], "changeBefore", "key_change"],
  [[">"], "changeAfter", "key_change"],
  [["+"], "closer", "key_zoom"],
  [["-"], "wider", "key_zoom"],
  [["="], "fit", "key_fit"],
  [["Shift+ArrowLeft"], "before", "key_pan"],
  [["Shift+ArrowRight"], "after", "key_pan"],
  [["p"], "pause", "key_pause"],
  [["r"], "resume", "key_resume"],
  [["c"], "cancel", "key_cancel"],
  [["."], "commands", "key_commands"],
  [["y"], "copy", "key_copy"],
  [["v"], "view", "key_view"],
  [["{"], "newerRun", "key_run"],
  [["}"], "olderRun", "key_run"],
  [["?"], "sheet", "key_sheet"],
];
const SIGNS = /** @type {Record<string, string>} */ ({ ArrowUp: "↑", ArrowDown: "↓", ArrowLeft: "←", ArrowRight: "→", PageUp: "PgUp", PageDown: "PgDn", Escape: "Esc", "-": "−", "Control+K": "Ctrl K", "Shift+ArrowUp": "⇧ ↑", "Shift+ArrowDown": "⇧ ↓", "Shift+ArrowLeft": "⇧ ←", "Shift+ArrowRight": "⇧ →" });
/** What only an operator can do. */
const CONTROL = new Set(["pause", "resume", "cancel", "mark", "markUp", "markDown"]);

/** Letters and signs can be switched off, for those whose speech or hand makes them by accident. */
const OFF = "letters off", ALWAYS = new Set(["/", "?", " "]);
const silent = (/** @type {string} */ key) => key.length === 1 && !ALWAYS.has(key) && localStorage.getItem(OFF) !== null;

/** Keys act while a row has the focus. @param {HTMLElement} grid @param {Deeds} deeds */
export function bindKeys(grid, deeds) {
  const table = new Map(KEYS.flatMap(([keys, deed]) => keys.map((key) => /** @type {[string, string | null]} */ ([key, deed]))));
  grid.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (!(event.target instanceof HTMLElement) || !event.target.matches("[role=row]")) return;
    const deed = (event.shiftKey && table.get(`Shift+${event.key}`)) || table.get(event.key);
    if (!deed || silent(event.key)) return;
    event.preventDefault();
    deeds[deed](event.key);
  });
}

/** @param {HTMLDialogElement} sheet @param {boolean} mayControl */
export function showKeys(sheet, mayControl) {
  const list = /** @type {HTMLElement} */ (sheet.querySelector("dl"));
  list.replaceChildren();
  const shown = KEYS.filter(([, deed]) => mayControl || !CONTROL.has(deed ?? ""));
  for (const word of new Set(shown.map(([, , name]) => name))) {
    const term = document.createElement("dt"), text = document.createElement("dd");
    const keys = shown.filter(([, , name]) => name === word).flatMap(([all]) => (all.length > 2 ? [all[0], "–", all[all.length - 1]] : all));
    term.append(...keys.map((key) => (key === "–" ? " – " : Object.assign(document.createElement("kbd"), { textContent: key === " " ? say("space") : (SIGNS[key] ?? key) }))));
    text.textContent = say(word);
    list.append(term, text);
  }
  const letters = /** @type {HTMLInputElement} */ (sheet.querySelector("[data-letters]"));
  letters.checked = localStorage.getItem(OFF) === null;
  letters.onchange = () => (letters.checked ? localStorage.removeItem(OFF) : localStorage.setItem(OFF, "1"));
  sheet.showModal();
}
