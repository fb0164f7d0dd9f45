// @ts-check
/** What was typed into the search, taken apart: words for names and ids, and `key:value` for the rest. No DOM. */
import { STATUSES } from "./store.js";

/** Keys that only the tower can look up; instances/textsearch.py knows the same. */
const ASKED = new Set(["label", "error", "message", "worker"]);
/** Words in quotes stay together, also behind a key. */
const WORD = /(?:[^\s"]|"[^"]*"?)+/g;

/**
 * `asks` is what has to be sent to the tower, "" for nothing.
 * @typedef {{plain: string, id: string, status: number | null, asks: string, empty: boolean}} Query
 */

/** @param {string} text @returns {Query} */
export function parse(text) {
  const plain = [], asks = [];
  let id = "", /** @type {number | null} */ status = null;
  for (const word of text.match(WORD) ?? []) {
    const [, key = "", value = ""] = /^([a-z]+):(.*)$/.exec(word) ?? [];
    const said = value.replaceAll('"', "");
    const named = said ? STATUSES.findIndex((name) => name.startsWith(said.toUpperCase())) : -1;
    if (key === "status" && named >= 0) status = named;
    else if (key === "id" && said) id = said.toLowerCase();
    else if (ASKED.has(key) && said) asks.push(word);
    else plain.push(word.replaceAll('"', ""));
  }
  const words = plain.join(" ").trim().toLowerCase();
  return { plain: words, id, status, asks: asks.join(" "), empty: !words && !id && status === null && !asks.length };
}
