"use strict";
// Replaces what has changed, and leaves alone what the reader has opened, scrolled or focused.
const PERIOD_MS = 5000;

async function renew() {
  if (document.hidden) return;
  const stale = document.getElementById("stale");
  try {
    const answer = await fetch("/", { cache: "no-store" });
    const next = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const open of document.querySelectorAll("details[open]")) {
      const same = next.getElementById(open.id);
      if (same) same.open = true;
    }
    const scrolled = [...document.querySelectorAll(".scroll")].map((one) => [one.id, one.scrollLeft]);
    const focused = document.activeElement && document.activeElement.id;
    for (const part of ["header", "main"]) {
      document.querySelector(part).replaceWith(next.querySelector(part));
    }
    for (const [id, left] of scrolled) {
      const same = document.getElementById(id);
      if (same) same.scrollLeft = left;
    }
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    document.title = next.title;
    stale.textContent = "";
  } catch {
    stale.textContent = "The daemon does not answer; this is how it was.";
  }
}

setInterval(renew, PERIOD_MS);
document.addEventListener("visibilitychange", renew);
