// What the page says: one polite line for screen readers, and toasts that go by themselves.

/** Say one line to assistive technology; `urgent` interrupts. */
export function announce(text, urgent = false) {
  const region = document.getElementById(urgent ? "alert" : "status");
  if (region) region.textContent = text;
}

/**
 * Show a toast, and say it. `undo` is {label, act}; `tone` "bad" stays until it is closed.
 * @returns {HTMLElement} the toast, so that the caller can take it away
 */
export function toast(text, { undo = null, tone = "", seconds = 8 } = {}) {
  const part = document.getElementById("toast").content.firstElementChild.cloneNode(true);
  part.querySelector("p").textContent = text;
  part.dataset.tone = tone;
  if (undo) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "b small";
    button.textContent = undo.label;
    button.addEventListener("click", () => { part.remove(); undo.act(); });
    part.querySelector("p").after(button);
  }
  part.querySelector("[data-close]").addEventListener("click", () => part.remove());
  document.getElementById("toasts").append(part);
  announce(text, tone === "bad");
  if (tone !== "bad") leaveLater(part, seconds * 1000);
  return part;
}

/** A toast under the pointer or with focus stays until it is left. */
function leaveLater(part, ms) {
  setTimeout(() => {
    if (part.matches(":hover, :focus-within")) leaveLater(part, 2000);
    else part.remove();
  }, ms);
}

/** The badge in the bar: `state` is live, late, off or rest; `detail` a few characters such as "0.2 s"; `named`: lost, for late. */
export function badge(state, detail = "", named = state) {
  const part = document.getElementById("live");
  if (!part) return;
  const word = part.dataset[`word${named[0].toUpperCase()}${named.slice(1)}`];
  if (part.dataset.live !== state || part.hidden || part.firstElementChild.textContent !== word) {
    part.dataset.live = state;
    part.hidden = false;
    part.firstElementChild.textContent = word;
  }
  part.lastElementChild.textContent = detail;
}
