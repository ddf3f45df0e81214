// Keeps a page true: hears of changes, fetches the parts that changed, says when it is offline.
"use strict";
(() => {
  const body = document.body;
  const language = document.documentElement.lang;
  const toast = document.getElementById("toast");
  let toastEnds = 0;

  function say(text) {
    toast.textContent = text;
    toast.hidden = false;
    clearTimeout(toastEnds);
    toastEnds = setTimeout(() => { toast.hidden = true; }, 6000);
  }

  // --- times, as people say them ---------------------------------------------------------------------
  const relative = new Intl.RelativeTimeFormat(language, { numeric: "auto" });
  const exact = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium" });
  const STEPS = [["second", 60], ["minute", 60], ["hour", 24], ["day", 30], ["month", 12], ["year", Infinity]];

  function ago(at) {
    let left = (at - Date.now()) / 1000;
    for (const [unit, most] of STEPS) {
      if (Math.abs(left) < most) return relative.format(Math.round(left), unit);
      left /= most;
    }
    return "";
  }

  function tellTimes(within) {
    for (const time of within.querySelectorAll("time[data-ago]")) {
      const at = Date.parse(time.dateTime);
      time.textContent = ago(at);
      time.title = exact.format(at);
    }
  }

  // --- what comes in ----------------------------------------------------------------------------------
  const now = document.getElementById("now");
  const title = document.title;
  let shown = cardIn(now);
  let later = false;

  function cardIn(part) {
    const card = part && part.querySelector("[data-card]");
    return card && card.dataset.maySay === "yes" ? card.dataset.card : null;
  }

  // While somebody chooses or types, what they look at stays as it is; not for ever, though.
  const AT_MOST = 30000;
  let openedAt = 0;

  function busy() {
    const at = document.activeElement;
    const typing = now && now.contains(at) && at.matches("input:not([type=hidden])");
    const choosing = now && now.querySelector("details[open]") && Date.now() - openedAt < AT_MOST;
    return Boolean(choosing || (typing && at.value !== ""));
  }

  // The answer to what somebody does shows all that is new, and what came of it: a look meanwhile would have
  // it dropped.
  let actingSince = 0;

  function acting() {
    return actingSince > 0 && Date.now() - actingSince < AT_MOST;
  }

  document.addEventListener("htmx:beforeRequest", (event) => {
    if (event.detail.requestConfig.verb === "post") actingSince = Date.now();
  });
  document.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.requestConfig.verb !== "post") return;
    actingSince = 0;
    setTimeout(catchUp, 0);
  });

  function refresh(whatever) {
    if (!whatever && (busy() || acting())) { later = true; return; }
    later = false;
    for (const part of document.querySelectorAll('[hx-trigger~="refresh"]')) htmx.trigger(part, "refresh");
  }

  function catchUp() {
    if (later) refresh();
  }

  document.addEventListener("focusout", () => setTimeout(catchUp, 300));
  document.addEventListener("toggle", (event) => {
    if (event.target.open) { openedAt = Date.now(); setTimeout(catchUp, AT_MOST + 100); } else setTimeout(catchUp, 300);
  }, true);

  function ring() {
    const wanted = document.querySelector("[data-sound]");
    if (!wanted || !wanted.checked) return;
    try {
      const audio = new AudioContext();
      for (const [at, tone] of [[0, 660], [0.18, 880]]) {
        const from = audio.currentTime + at;
        const note = audio.createOscillator();
        const volume = audio.createGain();
        note.frequency.value = tone;
        volume.gain.setValueAtTime(0.12, from);
        volume.gain.exponentialRampToValueAtTime(0.0001, from + 0.16);
        note.connect(volume).connect(audio.destination);
        note.start(from);
        note.stop(from + 0.17);
      }
    } catch (error) { console.debug("no sound", error); }
  }

  // What was asked for before somebody began to choose or type comes too late, whoever asked.
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.target !== now || !event.detail.shouldSwap) return;
    const open = now.querySelector("details[open]");
    if (open && open.contains(event.detail.requestConfig.elt)) return; // it is the answer to what was chosen
    if (busy()) { event.detail.shouldSwap = false; later = true; }
  });

  document.addEventListener("htmx:afterSwap", (event) => {
    tellTimes(event.target);
    if (event.target !== now) return;
    const told = now.querySelector("[data-say]"); // it outlives the next look
    if (told) { say(told.textContent.trim()); told.remove(); }
    const card = cardIn(now);
    if (card !== null && card !== shown) {
      ring();
      const number = now.querySelector("#client");
      document.title = `● ${body.dataset.incoming}: ${number ? number.textContent : ""}`;
    } else if (card === null) {
      document.title = title;
    }
    shown = card;
  });

  document.addEventListener("htmx:responseError", (event) => {
    say(event.detail.xhr.responseText.slice(0, 300) || body.dataset.offline || "");
    refresh(true);
  });
  document.addEventListener("htmx:sendError", () => say(body.dataset.offline || ""));

  // --- the switch for the sound is remembered ----------------------------------------------------------
  const sound = document.querySelector("[data-sound]");
  if (sound) {
    sound.checked = localStorage.getItem("sound") !== "off";
    sound.addEventListener("change", () => localStorage.setItem("sound", sound.checked ? "on" : "off"));
  }

  // --- a moment that was chosen by this browser's clock is sent in UTC -----------------------------------
  document.addEventListener("htmx:configRequest", (event) => {
    const form = event.detail.elt.closest("form");
    const local = form && form.querySelector("[data-local]");
    if (local && local.value) event.detail.parameters.set("at", new Date(local.value).toISOString());
  });

  // --- keys --------------------------------------------------------------------------------------------
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
    const visible = (one) => one.offsetParent !== null;
    const found = [...document.querySelectorAll(`[data-key="${CSS.escape(event.key.toLowerCase())}"]`)].find(visible);
    if (!found) return;
    event.preventDefault();
    if (found.tagName !== "SUMMARY") { found.click(); return; }
    const choice = found.parentElement;
    choice.open = !choice.open;
    openedAt = Date.now(); // the event that tells of it comes later
    const field = choice.open && choice.querySelector("input:not([type=hidden]):not([type=datetime-local])");
    if (field) field.focus(); // at once: what is typed next is meant for it, and is no key
  });

  // --- the line to the engine --------------------------------------------------------------------------
  const link = document.querySelector("[data-link]");
  const linkText = document.querySelector("[data-link-text]");
  let wasOff = false;

  function online(on) {
    if (!link) return;
    link.dataset.link = on ? "on" : "off";
    linkText.textContent = on ? linkText.dataset.on : linkText.dataset.off;
    if (!on && !wasOff) say(body.dataset.offline);
    if (on && wasOff) say(body.dataset.back);
    wasOff = !on;
  }

  if (body.dataset.live) {
    let source = null;
    let silent = 0;
    let soon = 0;
    let spread = 0;
    let looked = 0;

    // What is about this agent is shown at once. The rest too, after a while without news; while much changes, so
    // seldom that all pages together cost the engine little: it tells over how many ms they spread their looks.
    function changed(event) {
      heard();
      const told = JSON.parse(event.data);
      spread = told.spread;
      if (event.type === "change" && body.dataset.agent && told.agent === body.dataset.agent) look(); else lookSoon();
    }

    function look() {
      clearTimeout(soon);
      soon = 0;
      looked = Date.now();
      refresh();
    }

    function lookSoon() {
      if (!soon) soon = setTimeout(look, Math.max(Math.random() * spread, looked + 5 * spread - Date.now()));
    }

    function heard() {
      clearTimeout(silent);
      silent = setTimeout(lost, 25000);
    }

    function lost() {
      clearTimeout(silent);
      online(false);
      source.close();
      setTimeout(connect, 1000 + 2000 * Math.random());
    }

    function connect() {
      source = new EventSource(body.dataset.live);
      source.onopen = () => { online(true); heard(); };
      source.onerror = () => (source.readyState === EventSource.CLOSED ? lost() : online(false));
      for (const name of ["hello", "change", "reset"]) source.addEventListener(name, changed);
      source.addEventListener("beat", heard);
    }

    connect();
    window.addEventListener("pagehide", () => source.close());
    setInterval(() => { if (!document.hidden) lookSoon(); }, 30000);
  }

  tellTimes(document);
  setInterval(() => tellTimes(document), 15000);
})();
