// Looks at pages in a browser, as people with other screens, colours and needs would: node look.mjs [--pictures FOLDER] FILE...
//
// Each page is validated, then opened at three widths in light and dark. It may load nothing, run nothing that fails,
// be no wider than the screen, and break no rule of axe. CHROMIUM names the browser.

import { readFileSync, mkdirSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";
import { HtmlValidate } from "html-validate";

const WIDTHS = [360, 800, 1400];
const SCHEMES = ["light", "dark"];
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const words = process.argv.slice(2);
const at = words.indexOf("--pictures");
const pictures = at < 0 ? null : words.splice(at, 2)[1];
if (pictures) mkdirSync(pictures, { recursive: true });

const wrong = [];

const validator = new HtmlValidate({ extends: ["html-validate:recommended"] });
for (const file of words) {
  for (const { messages } of (await validator.validateFile(file)).results) {
    for (const { line, column, ruleId, message } of messages) {
      wrong.push(`${basename(file)}:${line}:${column}: ${ruleId}: ${message}`);
    }
  }
}

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  chromiumSandbox: false,
  args: ["--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update"],
});
try {
  for (const file of words) {
    const address = pathToFileURL(resolve(file)).href;
    for (const colorScheme of SCHEMES) {
      for (const width of WIDTHS) {
        const place = `${basename(file)} at ${width} in ${colorScheme}`;
        const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme });
        const page = await context.newPage();
        page.on("request", (request) => {
          if (request.url() !== address) wrong.push(`${place}: loads ${request.url().slice(0, 100)}`);
        });
        page.on("console", (message) => wrong.push(`${place}: says ${message.text().slice(0, 200)}`));
        page.on("pageerror", (error) => wrong.push(`${place}: fails with ${error}`));
        page.on("dialog", (dialog) => {
          wrong.push(`${place}: opens a dialog`);
          dialog.dismiss();
        });
        await page.goto(address);
        const name = `${basename(file, ".html")}-${width}-${colorScheme}.png`;
        if (pictures) await page.screenshot({ path: join(pictures, name), fullPage: true });
        await page.evaluate(() => document.querySelectorAll("details").forEach((details) => (details.open = true)));
        const wider = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
        if (wider > 0) wrong.push(`${place}: ${wider} pixels wider than the screen`);
        await page.evaluate(axe);
        const { violations } = await page.evaluate(() => window.axe.run(document));
        for (const { id, help, nodes } of violations) {
          wrong.push(`${place}: axe ${id}: ${help}: ${nodes.length} times, as in ${nodes[0].html.slice(0, 160)}`);
        }
        await context.close();
      }
    }
  }
} finally {
  await browser.close();
}
for (const line of wrong) console.log(line);
console.log(`${words.length} pages, ${wrong.length} complaints`);
process.exitCode = wrong.length ? 1 : 0;
