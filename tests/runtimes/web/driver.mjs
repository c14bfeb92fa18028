// node driver.mjs ORIGIN NPM_FOLDER CHROMIUM PROFILE_FOLDER OUT.json: open the page, hand it the job, keep its answer.
import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [origin, packages, executablePath, profile, out] = process.argv.slice(2);
const { chromium } = createRequire(join(packages, "package.json"))("playwright-core");

const args = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const context = await chromium.launchPersistentContext(profile, { executablePath, headless: true, args });
try {
  const foreign = [];
  await context.route("**", (route) => {
    const url = route.request().url();
    if (url.startsWith(`${origin}/`) || /^(data|blob):/.test(url)) return route.continue();
    foreign.push(url);
    return route.abort();
  });
  const page = await context.newPage();
  page.on("pageerror", (error) => process.stderr.write(`${error}\n`));
  await page.goto(`${origin}/page.html`);
  await page.waitForFunction(() => window.answer !== undefined);
  const job = await (await context.request.get(`${origin}/job.json`)).json();
  const answer = await page.evaluate((given) => window.answer(given), job);
  writeFileSync(out, JSON.stringify({ ...answer, foreign, browser: context.browser()?.version() ?? "" }));
} finally {
  await context.close();
}
