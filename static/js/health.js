// Asks for the cards again and writes what changed. The words are the server's.
import { paintTime } from "./marks.js";
import { announce } from "./voice.js";

const tiles = document.getElementById("tiles");
const marks = document.getElementById("marks").content;
const asked = document.getElementById("asked");
const at = asked.querySelector("time");

function write(part, text) {
  if (part.textContent !== text) part.textContent = text;
}

function paint(card) {
  const tile = tiles.querySelector(`[data-card="${CSS.escape(card.key)}"]`);
  if (!tile) return false;
  if (tile.dataset.tone !== card.tone) {
    tile.dataset.tone = card.tone;
    tile.querySelector(".mark").replaceWith(marks.querySelector(`[data-tone=${card.tone}]`).cloneNode(true));
  }
  write(tile.querySelector("p"), card.says);
  write(tile.querySelector(".big b"), card.big);
  write(tile.querySelector(".big span"), card.unit);
  return true;
}

async function ask() {
  try {
    const answer = await fetch(tiles.dataset.source, { headers: { Accept: "application/json" }, signal: AbortSignal.timeout(8000) });
    if (answer.redirected || answer.status === 401 || answer.status === 403) return location.reload(); // signed out meanwhile
    if (!answer.ok) throw new Error(String(answer.status));
    const { in_short: inShort, cards, at_ms: atMs } = await answer.json();
    if (!cards.every(paint) || cards.length !== tiles.children.length) return location.reload();
    const said = document.getElementById("in-short");
    if (said.textContent !== inShort) announce(inShort);
    write(said, inShort);
    paintTime(at, atMs);
    told(true);
  } catch {
    told(false);
  }
}

function told(answers) {
  asked.querySelector("[data-lost]").hidden = answers;
  tiles.toggleAttribute("data-stale", !answers);
}

let busy = false;
async function look() {
  if (document.hidden || busy) return;
  busy = true;
  await ask();
  busy = false;
}
setInterval(look, Number(tiles.dataset.every));
document.addEventListener("visibilitychange", look);
look();
