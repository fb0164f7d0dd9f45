// @ts-check
/** One table of keys: it binds them and it fills the sheet, so that the two cannot differ. */
import { say } from "./words.js";

/**
 * @typedef {Record<"up" | "down" | "right" | "left" | "home" | "end" | "pageUp" | "pageDown" | "openBelow" | "foldBelow" | "next" | "previous"
 *   | "enter" | "escape" | "follow" | "pause" | "resume" | "cancel" | "copy" | "sheet", () => void> & {level: (level: number) => void}} Deeds
 */

/** Keys, deed, words; without a deed the browser or another listener acts. @type {[string[], string | null, string][]} */
export const KEYS = [
  [["ArrowUp", "k"], "up", "key_up"],
  [["ArrowDown", "j"], "down", "key_down"],
  [["ArrowRight"], "right", "key_right"],
  [["ArrowLeft"], "left", "key_left"],
  [["Home"], "home", "key_home"],
  [["End"], "end", "key_end"],
  [["PageUp"], "pageUp", "key_page"],
  [["PageDown"], "pageDown", "key_page"],
  [["e"], "openBelow", "key_open_below"],
  [["w"], "foldBelow", "key_fold_below"],
  [["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"], "level", "key_level"],
  [["n"], "next", "key_next"],
  [["N"], "previous", "key_previous"],
  [["Enter"], "enter", "key_enter"],
  [["Escape"], "escape", "key_escape"],
  [["/"], null, "key_search"],
  [["l"], "follow", "key_follow"],
  [["p"], "pause", "key_pause"],
  [["r"], "resume", "key_resume"],
  [["c"], "cancel", "key_cancel"],
  [["y"], "copy", "key_copy"],
  [["?"], "sheet", "key_sheet"],
];
const SIGNS = /** @type {Record<string, string>} */ ({ ArrowUp: "↑", ArrowDown: "↓", ArrowLeft: "←", ArrowRight: "→", PageUp: "PgUp", PageDown: "PgDn", Escape: "Esc" });
/** What only an operator can do. */
const CONTROL = new Set(["pause", "resume", "cancel"]);

/** Keys act while a row has the focus. @param {HTMLElement} grid @param {Deeds} deeds */
export function bindKeys(grid, deeds) {
  const table = new Map(KEYS.flatMap(([keys, deed]) => keys.map((key) => /** @type {[string, string | null]} */ ([key, deed]))));
  grid.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (!(event.target instanceof HTMLElement) || !event.target.matches("[role=row]")) return;
    const deed = table.get(event.key);
    if (!deed) return;
    event.preventDefault();
    if (deed === "level") deeds.level(Number(event.key));
    else /** @type {any} */ (deeds)[deed]();
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
    term.append(...keys.map((key) => (key === "–" ? " – " : Object.assign(document.createElement("kbd"), { textContent: SIGNS[key] ?? key }))));
    text.textContent = say(word);
    list.append(term, text);
  }
  sheet.showModal();
}
