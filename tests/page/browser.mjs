// A real browser for one case: started, watched, stopped.
//
// It watches the page for what no case may show: an exception, an error on the console, and a
// violation of the page's own policy. The browser's own line about an answer that is a refusal, or
// about a connection that the case itself cut, is none.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { mkdtempSync, rmSync } from "node:fs";
import path from "node:path";

/** How long the page may take for a step before the case gives up. It only ends what hangs. */
export const PATIENCE_MS = 60_000;

const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** Runs `act` with a page in a browser of its own, and returns all faults that were seen. */
export async function browse(base, act, options = {}) {
  const { PAGE_TOOLS: tools, PAGE_SCRATCH: scratch, CHROMIUM: executablePath } = process.env;
  const { chromium } = createRequire(path.join(tools, "package.json"))("playwright-core");
  const profile = mkdtempSync(path.join(scratch, "browser-"));
  const faults = [];
  const context = await chromium.launchPersistentContext(profile, {
    executablePath,
    args: FLAGS,
    env: { ...process.env, HOME: profile },
    viewport: { width: 360, height: 780 },
    locale: "en-GB",
    timezoneId: "UTC",
    ...options,
  });
  try {
    context.setDefaultTimeout(PATIENCE_MS);
    await watch(context, base, faults);
    await act(context.pages()[0] ?? (await context.newPage()), context);
  } finally {
    await context.close();
    rmSync(profile, { recursive: true, force: true });
  }
  return faults;
}

async function watch(context, base, faults) {
  await context.exposeBinding("reportViolation", (_, what) => faults.push(`policy: ${what}`));
  await context.addInitScript(() => {
    addEventListener("securitypolicyviolation", (event) => {
      window.reportViolation(`${event.effectiveDirective} ${event.blockedURI}`);
    });
  });
  context.on("weberror", (error) => faults.push(`exception: ${error.error()}`));
  context.on("console", (message) => {
    if (message.type() !== "error") return;
    const isAnswer = message.text().startsWith("Failed to load resource");
    if (isAnswer && message.location().url.startsWith(`${base}/v1/`)) return;
    faults.push(`console: ${message.text()}`);
  });
}

/** What a case does with the page. */
export class Buyer {
  constructor(page, base, sale) {
    this.page = page;
    this.url = `${base}/sales/${sale}`;
  }

  async open(fragment = "") {
    await this.page.goto(this.url + fragment);
    const anything = this.page.locator("#choose, #held, #ticket, #verdict");
    await anything.filter({ visible: true }).first().waitFor();
  }

  async choose(item, quantity) {
    await this.page.getByLabel(`How many of Ticket type ${item}`).fill(String(quantity));
  }

  press(name) {
    return this.page.getByRole("button", { name, exact: true }).click();
  }

  async hold(item, quantity) {
    await this.choose(item, quantity);
    await this.press("Hold tickets");
  }

  /** Waits until one section has the buyer's attention: choose, held, ticket. */
  sees(section) {
    return this.page.locator(`#${section}`).waitFor();
  }

  /** Waits for what the page says, and returns it as people read it. */
  async isTold(code) {
    await this.page.locator(`#verdict[data-code="${code}"]`).waitFor();
    return this.page.locator("#verdict-region").innerText();
  }

  async isToldNothing() {
    await this.page.locator("#verdict").waitFor({ state: "hidden" });
  }

  text(id) {
    return this.page.locator(`#${id}`).innerText();
  }

  /** The stored purchase. */
  async record() {
    return this.page.evaluate(() => {
      const key = Object.keys(localStorage).find((name) => name.startsWith("boxoffice.purchase."));
      return JSON.parse(localStorage.getItem(key));
    });
  }

  /** Cuts the first order's connection, before or behind the server; returns the request's id. */
  loseFirstOrder({ reachesServer }) {
    return new Promise((resolve) => {
      this.page.route("**/orders", async (route) => {
        if (reachesServer) {
          const answer = await route.fetch();
          assert.equal(answer.status(), 201);
        }
        await route.abort("timedout");
        resolve(route.request().headers()["idempotency-key"]);
      }, { times: 1 });
    });
  }
}
