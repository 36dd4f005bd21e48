"use strict";
// Everything is legible without this: it filters, switches units, opens what a link leads to, and shows tips.
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const all = (selector, from) => Array.from((from || document).querySelectorAll(selector));

  // Light or dark: the system's choice until the reader's own.
  const theme = document.getElementById("theme");
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const name = () => { theme.textContent = dark() ? "Light" : "Dark"; theme.setAttribute("aria-label", dark() ? "Use light colours" : "Use dark colours"); };
  theme.hidden = false;
  name();
  theme.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; name(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);

  for (const run of all("article")) {
    const tools = run.querySelector(".tools");
    if (!tools) continue;
    tools.hidden = false;
    const tally = run.querySelector(".tally");
    if (tally) tally.hidden = true;
    const grid = run.querySelector(".matrix .grid");
    const boxes = all("input[type=checkbox]", tools);
    const find = tools.querySelector("input[type=search]");
    const status = tools.querySelector(".status");
    const cells = all("td[data-verdict]", grid);
    const bodies = new Map(all(".cell:not(.hazard) .body", run).map(body => [body.id, body.parentElement]));
    for (const box of boxes) {
      const n = cells.filter(cell => cell.dataset.verdict === box.value).length;
      box.parentElement.append(" " + n);
    }
    const filter = () => {
      const on = new Set(boxes.filter(box => box.checked).map(box => box.value));
      const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const cell of cells) {
        const link = cell.querySelector("a");
        const below = bodies.get(link.hash.slice(1));
        const text = (cell.parentElement.cells[0].textContent + " " + cell.textContent + " "
          + (below ? below.querySelector("summary").textContent : "")).toLowerCase();
        const hit = on.has(cell.dataset.verdict) && words.every(word => text.includes(word));
        cell.classList.toggle("off", !hit);
        if (below) below.hidden = !hit;
        shown += hit;
      }
      for (const row of all("tbody tr", grid)) row.hidden = !all("td:not(.off)", row).length;
      status.textContent = shown === cells.length ? "" : shown + " of " + cells.length + " cells";
      const nothing = run.querySelector(".nothing");
      if (nothing) nothing.hidden = shown > 0;
    };
    boxes.forEach(box => box.addEventListener("change", filter));
    find.addEventListener("input", filter);
    const unit = tools.querySelector(".unit");
    unit.hidden = !grid.querySelector(".ratio");
    unit.addEventListener("click", () => {
      const times = unit.getAttribute("aria-pressed") !== "true";
      unit.setAttribute("aria-pressed", String(times));
      grid.classList.toggle("absolute", times);
    });
  }

  // A link into a closed cell opens it.
  const open = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") { at.hidden = false; at.open = true; }
    if (target) (target.closest("details.cell") || target).scrollIntoView();
  };
  addEventListener("hashchange", open);
  document.addEventListener("click", event => {
    const link = event.target.closest && event.target.closest("a[href^='#']");
    if (link && link.hash === location.hash) open();
  });
  open();

  // On paper everything is open.
  let closed = [];
  addEventListener("beforeprint", () => { closed = all("details:not([open])"); closed.forEach(d => { d.open = true; }); });
  addEventListener("afterprint", () => { closed.forEach(d => { d.open = false; }); closed = []; });

  // Tips: under the pointer or the keyboard's focus; Escape puts them away.
  const tip = document.getElementById("tip");
  const hide = () => { tip.hidden = true; };
  const show = (text, x, y) => {
    tip.textContent = text;
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = Math.max(8, Math.min(x, root.clientWidth - box.width - 8)) + scrollX + "px";
    tip.style.top = (y + box.height + 8 > innerHeight ? Math.max(8, y - box.height - 28) : y) + scrollY + "px";
  };
  for (const link of all("[data-tip]")) {
    const at = () => { const box = link.getBoundingClientRect(); show(link.dataset.tip, box.left, box.bottom + 6); };
    link.setAttribute("aria-describedby", "tip");
    link.addEventListener("mouseenter", at);
    link.addEventListener("focus", at);
    link.addEventListener("mouseleave", hide);
    link.addEventListener("blur", hide);
  }
  addEventListener("keydown", event => { if (event.key === "Escape") hide(); });

  // The row of a chart's numbers that lies under the pointer.
  for (const figure of all("figure")) {
    const rows = all("tbody tr[data-x]", figure);
    if (!rows.length) continue;
    const plot = figure.querySelector(".plot");
    const heads = all("thead th", figure).map(th => th.textContent);
    const width = plot.viewBox.baseVal.width;
    plot.addEventListener("mousemove", event => {
      const box = plot.getBoundingClientRect();
      const x = (event.clientX - box.left) / box.width * width;
      const near = rows.reduce((a, b) => Math.abs(b.dataset.x - x) < Math.abs(a.dataset.x - x) ? b : a);
      const text = all("td", near).map((td, i) => heads[i] + " " + td.textContent).join("\n");
      show(text, event.clientX + 14, event.clientY + 14);
    });
    plot.addEventListener("mouseleave", hide);
  }
})();
