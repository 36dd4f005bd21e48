// Looks at HTML reports in a real Chromium. Run by scripts/check_html.sh; see there.
//
// node check.mjs [--shots DIR] REPORT.html...
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import puppeteer from "puppeteer-core";

const axe = fs.readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const WIDTHS = [390, 900, 1440];
const SCHEMES = ["light", "dark"];
const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"];
const LIMIT = 3_000_000;

const args = process.argv.slice(2);
const at = args.indexOf("--shots");
const shots = at >= 0 ? args.splice(at, 2)[1] : null;
if (shots) fs.mkdirSync(shots, { recursive: true });
const chromium = process.env.CHROMIUM || "/usr/bin/chromium";

let failures = 0;
const report = (file, ok, what) => {
  if (!ok) { failures += 1; console.log(`FAILED ${path.basename(file)}: ${what}`); }
};

const profile = fs.mkdtempSync(path.join(os.tmpdir(), "check-html-"));
const browser = await puppeteer.launch({
  executablePath: chromium,
  headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars"],
  userDataDir: profile,
  protocolTimeout: 300_000,
});

/** A page with one report, in one width and colour scheme; whatever it logs or asks for beyond its file is a failure. */
async function open(file, { width = 1440, scheme = "light", script = true } = {}) {
  const page = await browser.newPage();
  await page.setViewport({ width, height: width < 600 ? 844 : 900 });
  await page.setJavaScriptEnabled(script);
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  page.on("console", m => { if (["error", "warn"].includes(m.type())) report(file, false, `the console says: ${m.text()}`); });
  page.on("pageerror", e => report(file, false, `a script error: ${e.message}`));
  page.on("request", r => { if (!r.url().startsWith("file://")) report(file, false, `it asks for ${r.url()}`); });
  await page.goto(pathToFileURL(file).href);
  return page;
}

/** Opens every cell and table. */
const unfold = page => page.evaluate(() => { document.querySelectorAll("details").forEach(d => { d.open = true; }); });

async function layout(file, width, scheme) {
  const page = await open(file, { width, scheme });
  const where = `${width} px, ${scheme}`;
  const name = path.basename(file, ".html");
  if (shots) await page.screenshot({ path: path.join(shots, `${name}-${width}-${scheme}.png`) });
  const wide = () => page.evaluate(() => document.scrollingElement.scrollWidth - document.documentElement.clientWidth);
  report(file, await wide() <= 0, `${where}: the page is wider than its window by ${await wide()} px`);
  await unfold(page);
  report(file, await wide() <= 0, `${where}: with everything open it is wider by ${await wide()} px`);
  const seen = await page.evaluate(() => {
    const box = e => { const b = e.getBoundingClientRect(); return b.width > 0 && b.height > 0; };
    const plots = [...document.querySelectorAll("svg.plot")];
    const out = [];
    for (const svg of plots) {
      const all = svg.getBoundingClientRect();
      for (const text of svg.querySelectorAll("text")) {
        const b = text.getBoundingClientRect();
        if (b.left < all.left - 1 || b.right > all.right + 1 || b.top < all.top - 1 || b.bottom > all.bottom + 1) {
          out.push(`${text.textContent} of ${svg.getAttribute("aria-label").slice(0, 60)}`);
        }
      }
    }
    return {
      plots: plots.length,
      hidden: plots.filter(svg => !box(svg) || !svg.getAttribute("aria-label")).length,
      // Curves of equal tenants: a sentence and a table for each, and a chart wherever something was measured.
      curves: [...document.querySelectorAll(".densities")].filter(g => {
        const said = [...g.querySelectorAll(".crossing")];
        const measured = [...g.querySelectorAll("table.density .word")].some(w => /^(met|MISSED|undecided)$/.test(w.textContent));
        return !said.length || !said.every(s => box(s) && /tenant/.test(s.textContent))
          || g.querySelectorAll(".curve").length !== said.length
          || (measured && !(box(g.querySelector("table.density")) && g.querySelector("figure.density svg.plot")));
      }).length,
      grids: [...document.querySelectorAll(".grid")].filter(g => !box(g)).length,
      // A cell of the matrix must hold its words.
      clipped: [...document.querySelectorAll(".grid td a, .badge, button, th")].filter(e => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== "inline").length,
      out,
    };
  });
  report(file, seen.hidden === 0, `${where}: ${seen.hidden} of ${seen.plots} charts are not to be seen, or have no name`);
  report(file, seen.grids === 0, `${where}: the matrix is not to be seen`);
  report(file, seen.curves === 0, `${where}: curves without their sentence, table or chart`);
  report(file, seen.clipped === 0, `${where}: ${seen.clipped} texts do not fit`);
  report(file, seen.out.length === 0, `${where}: text outside of its chart: ${seen.out.slice(0, 3).join("; ")}`);
  if (shots) {
    const cell = await page.$("details.cell .body");
    if (cell) {
      const moved = await page.evaluateHandle(() => document.querySelector("details.cell[data-verdict=violated]") || document.querySelector("details.cell"));
      await page.evaluate(d => { d.querySelectorAll("details").forEach(x => { x.open = false; }); d.scrollIntoView(); }, moved);
      const clip = await page.evaluate(d => { const b = d.getBoundingClientRect(); return { x: 0, y: b.top + scrollY, width: innerWidth, height: Math.min(b.height, 2400) }; }, moved);
      await page.screenshot({ path: path.join(shots, `${name}-${width}-${scheme}-cell.png`), clip, captureBeyondViewport: true });
    }
    const rest = await page.$(".rest");
    if (rest) {
      await page.evaluate(() => document.querySelectorAll(".rest details").forEach(d => { d.open = false; }));
      const clip = await page.evaluate(d => { const b = d.getBoundingClientRect(); return { x: 0, y: b.top + scrollY, width: innerWidth, height: Math.min(b.height, 2000) }; }, rest);
      await page.screenshot({ path: path.join(shots, `${name}-${width}-${scheme}-rest.png`), clip, captureBeyondViewport: true });
    }
  }
  await page.close();
}

async function accessible(file, scheme) {
  const page = await open(file, { width: 1440, scheme });
  for (const everything of [false, true]) {
    if (everything) await unfold(page);
    await page.evaluate(axe);
    const found = await page.evaluate(async tags => {
      const { violations } = await window.axe.run(document, { runOnly: tags, resultTypes: ["violations"] });
      return violations.map(v => `${v.id} (${v.nodes.length}): ${v.nodes[0].html.slice(0, 160)} ${v.nodes[0].failureSummary}`);
    }, TAGS);
    report(file, found.length === 0, `${scheme}: axe finds ${found.join(" | ")}`);
  }
  await page.close();
}

/** Filter, units, theme, links, tips and keyboard. */
async function works(file) {
  const page = await open(file);
  const grid = await page.$(".matrix .grid");
  const colour = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const [before] = [await colour()];
  await page.click("#theme");
  const after = await colour();
  await page.click("#theme");
  report(file, before !== after && before === await colour(), "the toggle does not turn dark and light again");
  if (grid) {
    const state = () => page.evaluate(() => ({
      on: document.querySelectorAll(".matrix .grid td[data-verdict]:not(.off)").length,
      all: document.querySelectorAll(".matrix .grid td[data-verdict]").length,
      cells: [...document.querySelectorAll("details.cell:not(.hazard)")].filter(d => d.getClientRects().length).length,
      status: document.querySelector(".status").textContent,
    }));
    const full = await state();
    report(file, full.on === full.all && full.cells === full.all, `before a filter ${JSON.stringify(full)}`);
    const box = ".verdicts input";
    const verdict = await page.$eval(box, b => b.value);
    const of = await page.$$eval(`.grid td[data-verdict=${verdict}]`, all => all.length);
    await page.click(box);
    const less = await state();
    report(file, less.on === full.all - of && less.cells === less.on && less.status.includes(` of ${full.all}`), `without ${verdict} ${JSON.stringify(less)}`);
    await page.click(box);
    await page.type(".find input", "no such cell anywhere");
    report(file, (await state()).on === 0, "a search for nothing finds something");
    await page.$eval(".find input", i => { i.value = ""; i.dispatchEvent(new Event("input")); });
    report(file, (await state()).on === full.all, "an empty search does not show all");
    const shown = of => page.$$eval(`.grid .${of}`, all => all.filter(e => e.getClientRects().length).length);
    const [ratios, times] = [await shown("ratio"), await shown("times")];
    if (ratios > 0) {
      await page.click(".unit");
      report(file, ratios > 0 && times === 0 && await shown("ratio") === 0 && await shown("times") > 0, "ratios and times do not change places");
      await page.click(".unit");
    }
    await page.focus(".grid td a");
    report(file, await page.$eval("#tip", t => !t.hidden && t.textContent.length > 0), "no tip for the keyboard");
    await page.keyboard.press("Escape");
    report(file, await page.$eval("#tip", t => t.hidden), "Escape does not put the tip away");
    await page.keyboard.press("Enter");
    await new Promise(done => setTimeout(done, 200));
    const opened = await page.evaluate(() => { const t = document.querySelector(location.hash); return !!t && t.closest("details").open && t.getClientRects().length > 0; });
    report(file, opened, "a link of the matrix does not open its cell");
  }
  await page.close();
}

/** Without its script everything is there to be read; on paper everything is open. */
async function plain(file) {
  const page = await open(file, { script: false });
  // With scripts off the page cannot be asked; its accessibility tree and its text can.
  const client = await page.createCDPSession();
  const { root } = await client.send("DOM.getDocument", { depth: 0 });
  const visible = async selector => {
    const { nodeIds } = await client.send("DOM.querySelectorAll", { nodeId: root.nodeId, selector });
    let shown = 0;
    for (const nodeId of nodeIds) {
      const box = await client.send("DOM.getBoxModel", { nodeId }).catch(() => null);
      if (box && box.model.width > 0 && box.model.height > 0) shown += 1;
    }
    return [shown, nodeIds.length];
  };
  const [words, cells] = [await visible(".grid td .word"), await visible(".grid td .ratio")];
  report(file, words[0] === words[1] && cells[0] === cells[1], `without script ${words[0]} of ${words[1]} verdicts and ${cells[0]} of ${cells[1]} ratios are to be seen`);
  const crossings = await visible(".crossing");
  report(file, crossings[0] === crossings[1], `without script ${crossings[0]} of ${crossings[1]} crossings are to be seen`);
  const tools = await visible(".tools");
  report(file, tools[0] === 0, "without script there are buttons that do nothing");
  const target = fs.readFileSync(file, "utf8").match(/<td class="v-[a-z]+"[^>]*><a href="#([^"]+)"/)?.[1];
  if (target) {
    await page.goto(`${pathToFileURL(file).href}#${target}`);
    const again = await client.send("DOM.getDocument", { depth: 0 });
    root.nodeId = again.root.nodeId;
    const body = await visible(`#${target}`);
    report(file, body[0] === 1, "without script a link does not open its cell");
  }
  await page.emulateMediaType("print");
  const plots = await visible("svg.plot");
  report(file, plots[0] === plots[1], `on paper ${plots[0]} of ${plots[1]} charts are to be seen`);
  if (shots) await page.pdf({ path: path.join(shots, `${path.basename(file, ".html")}.pdf`), format: "A4", printBackground: true });
  await page.close();
}

try {
  for (const file of args.map(f => path.resolve(f))) {
    const begun = Date.now();
    const size = fs.statSync(file).size;
    report(file, size <= LIMIT, `${size} bytes, where ${LIMIT} are allowed`);
    for (const width of WIDTHS) for (const scheme of SCHEMES) await layout(file, width, scheme);
    for (const scheme of SCHEMES) await accessible(file, scheme);
    await works(file);
    await plain(file);
    console.log(`${path.basename(file)}: ${size} bytes, looked at in ${((Date.now() - begun) / 1000).toFixed(1)} s`);
  }
} finally {
  await browser.close();
  fs.rmSync(profile, { recursive: true, force: true });
}
console.log(failures ? `${failures} failures` : "all as it must be");
process.exit(failures ? 1 : 0);
