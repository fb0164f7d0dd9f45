// `{` and `}` on the page of a run go through the list that the reader came from, with its filters and order.

const page = document.querySelector(".trace[data-trace]");
const KEY = "tower.list";

/** The filters of that list; kept while the reader goes from run to run, forgotten on any other way. */
function list() {
  const came = document.referrer ? new URL(document.referrer) : null;
  const here = came?.origin === location.origin;
  try {
    if (here && came.pathname === "/") sessionStorage.setItem(KEY, came.search.slice(1));
    else if (!here || !came.pathname.startsWith("/traces/")) sessionStorage.removeItem(KEY);
    return sessionStorage.getItem(KEY);
  } catch {
    return null; // storage is off
  }
}

async function ask(query) {
  const all = { newer: page.dataset.newer, older: page.dataset.older };
  // Not the neighbours among all runs, while those of the list are on their way.
  place({});
  const asked = new URLSearchParams(query);
  asked.delete("cursor");
  asked.delete("limit");
  asked.set("of", page.dataset.trace);
  const answer = await fetch(`/runs/beside/?${asked}`).catch(() => null);
  place(answer?.ok ? await answer.json() : all);
  page.dataset.beside = "list";
}

function place(urls) {
  for (const name of ["newer", "older"]) {
    if (urls[name]) page.dataset[name] = urls[name];
    else delete page.dataset[name];
  }
}

const query = list();
if (query !== null) ask(query);
