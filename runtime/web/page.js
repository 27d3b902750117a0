"use strict";
// Replaces what has changed, and leaves alone what the reader has opened, scrolled or focused. Of a
// daemon that gives no page in time it is said where everybody looks, the title of the tab, too.
const PERIOD_MS = 5000;
const HIDDEN_PERIOD_MS = 60000;
const ANSWER_MS = 5000;
let askedAt = 0;
let isAsking = false;

async function renew() {
  if (isAsking || (document.hidden && Date.now() - askedAt < HIDDEN_PERIOD_MS)) return;
  isAsking = true;
  askedAt = Date.now();
  try {
    show(await read());
  } catch {
    showUnanswered();
  } finally {
    isAsking = false;
  }
}

async function read() {
  const signal = AbortSignal.timeout(ANSWER_MS);
  const answer = await fetch("/", { cache: "no-store", signal });
  const next = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (!next.getElementById("badge")) throw new Error("somebody else answers");
  return next;
}

function show(next) {
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
  document.getElementById("stale").textContent = "";
}

function showUnanswered() {
  const stale = document.getElementById("stale");
  if (stale.textContent) return;
  const asOf = document.getElementById("as-of")?.dateTime.slice(11, 19);
  const said = asOf ? `no answer since ${asOf}` : "no answer";
  const state = document.getElementById("badge");
  state.textContent = said;
  state.className = "state bad";
  document.title = `refreshd: ${said}`;
  stale.textContent = "The daemon does not answer: this is how it was" + (asOf ? ` at ${asOf} UTC.` : ".");
}

setInterval(renew, PERIOD_MS);
document.addEventListener("visibilitychange", renew);
