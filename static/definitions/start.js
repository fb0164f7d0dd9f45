// The start form, where there are scripts: what was written survives a change of form, and the command goes to the clipboard.
import { announce } from "../js/voice.js";

const form = document.querySelector("form[data-start]");

document.querySelector("[data-problems]")?.focus();

for (const link of document.querySelectorAll("[data-mode]")) {
  link.addEventListener("click", (event) => {
    if (!form || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const wanted = document.createElement("input");
    wanted.type = "hidden";
    wanted.name = "mode";
    wanted.value = link.dataset.mode;
    form.append(wanted);
    form.submit();
  });
}

form?.addEventListener("submit", async (event) => {
  const button = event.submitter;
  if (!button?.matches("[data-curl]")) {
    button?.setAttribute("aria-busy", "true");
    return;
  }
  event.preventDefault();
  const body = new FormData(form, button);
  const answer = await fetch(form.action, { method: "POST", body, headers: { Accept: "text/plain" } }).catch(() => null);
  const said = answer?.headers.get("Content-Type") ?? "";
  if (!answer?.ok || !said.startsWith("text/plain")) {
    // Something in the form is wrong, or the session has ended: the page itself says what.
    sendAsPage(button);
    return;
  }
  try {
    await navigator.clipboard.writeText(await answer.text());
  } catch {
    sendAsPage(button);
    return;
  }
  const label = button.querySelector("span");
  const before = label.textContent;
  label.textContent = button.dataset.copied;
  announce(button.dataset.copied);
  setTimeout(() => { label.textContent = before; }, 2000);
});

function sendAsPage(button) {
  const show = document.createElement("input");
  show.type = "hidden";
  show.name = button.name;
  show.value = button.value;
  form.append(show);
  form.submit();
}

// Back brings the page as it was left: with a button that is still busy.
addEventListener("pageshow", () => {
  for (const button of document.querySelectorAll("form[data-start] [aria-busy]")) button.removeAttribute("aria-busy");
});
