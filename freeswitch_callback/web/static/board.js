// The board's chart and the choice of calls.
"use strict";
(() => {
  const holder = document.getElementById("chart");
  let chart = null;
  let days = "1";
  const HOUR = 3600, DAY = 24 * HOUR;
  const language = document.documentElement.lang;
  const hour = new Intl.DateTimeFormat(language, { hour: "numeric", minute: "2-digit" });
  const date = new Intl.DateTimeFormat(language, { day: "numeric", month: "short" });
  const exact = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" });

  function label(second) {
    const at = new Date(second * 1000);
    return (days !== "1" && at.getHours() === 0 ? date : hour).format(at);
  }

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  async function draw() {
    const answer = await fetch(`/board/chart?days=${days}`, { headers: { "HX-Request": "true" } });
    if (!answer.ok) return;
    const data = await answer.json();
    holder.querySelector("[data-nothing]").hidden = data.slice(1).some((counts) => counts.some(Boolean));
    if (chart) { chart.setData(data); return; }
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line") }, ticks: { stroke: colour("--line") } };
    const bars = uPlot.paths.bars({ size: [0.7, 40], align: 1 });
    chart = new uPlot({
      width: holder.clientWidth,
      height: 180,
      padding: [null, 36, null, null],
      cursor: { drag: { x: false, y: false } },
      scales: {
        x: { range: (_self, first, last) => [first, days === "1" ? first + DAY : last + HOUR] },
        y: { range: (_self, _low, high) => [0, Math.max(high, 4)] },
      },
      axes: [
        { ...axis, space: 70, incrs: [1, 2, 3, 6, 12, 24, 48, 120, 240].map((hours) => hours * HOUR), values: (_self, splits) => splits.map(label) },
        { ...axis, size: 44 },
      ],
      series: [
        { label: holder.dataset.hour, value: (_self, second) => second === null ? "–" : exact.format(new Date(second * 1000)) },
        { label: holder.dataset.missed, fill: colour("--line"), stroke: colour("--soft"), paths: bars, points: { show: false } },
        { label: holder.dataset.reached, fill: colour("--accent"), stroke: colour("--accent"), paths: bars, points: { show: false } },
      ],
    }, data, holder);
  }

  document.querySelector("[data-days]").addEventListener("click", (event) => {
    const button = event.target.closest("[data-day]");
    if (!button) return;
    days = button.dataset.day;
    for (const one of document.querySelectorAll("[data-day]")) one.setAttribute("aria-pressed", String(one === button));
    draw();
  });
  window.addEventListener("resize", () => chart && chart.setSize({ width: holder.clientWidth, height: 180 }));
  setInterval(() => { if (!document.hidden) draw(); }, 60000);
  draw();

  const form = document.getElementById("chosen");
  const count = form.querySelector("[data-count]");

  function tellCount() {
    const chosen = form.querySelectorAll("#calls input[name=ids]:checked").length;
    count.textContent = chosen ? `${count.dataset.some} ${chosen}` : count.dataset.none;
  }

  form.addEventListener("change", (event) => {
    if (event.target.matches("[data-all]")) {
      for (const one of form.querySelectorAll("#calls input[name=ids]")) one.checked = event.target.checked;
    }
    tellCount();
  });
  document.getElementById("act").addEventListener("click", (event) => {
    if (event.target.matches("[data-dismiss]")) event.currentTarget.replaceChildren();
  });

  const filters = document.getElementById("filters");
  // It was searched while it was typed: to look again when the field is left would undo what was chosen.
  document.getElementById("search").addEventListener("change", (event) => event.stopPropagation());
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.target.id === "calls") tellCount();
    if (event.target.id === "act" && event.target.querySelector("[data-done]")) htmx.trigger(filters, "submit");
  });
  filters.querySelector("[data-export]").addEventListener("click", (event) => {
    event.target.href = `/board/export.csv?${new URLSearchParams(new FormData(filters))}`;
  });
})();
