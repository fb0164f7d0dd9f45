// How far an action for many runs has come; the page works without it.
import { count } from "./marks.js";
import { announce } from "./voice.js";

const part = document.querySelector("[data-bulk-state]");
const EACH_MS = 1_000;

async function look() {
  const answer = await fetch(part.dataset.bulkState).catch(() => null);
  if (answer?.ok) paint(await answer.json());
  setTimeout(look, EACH_MS);
}

function paint({ done, total, ended }) {
  part.querySelector("progress").value = done;
  const text = part.dataset.text.replace("{n}", count(done)).replace("{all}", count(total));
  const shown = part.querySelector("[data-done]");
  if (shown.textContent !== text) shown.textContent = text;
  if (!ended) return;
  announce(text);
  location.reload(); // what became of each run is drawn by the server
}

setTimeout(look, EACH_MS);
