// Runs one case: `node run.mjs CASE BASE SALE`. The environment says where the tools are, see
// tests/page.rs. Ends with 0 where the case held and the page showed no fault; prints the faults.

import { Buyer, browse } from "./browser.mjs";
import * as cases from "./cases.mjs";

const [name, base, sale] = process.argv.slice(2);
const faults = await browse(base, async (page, context) => {
  const buyer = new Buyer(page, base, sale);
  await cases[name]({ buyer, page, context, base, sale });
});
for (const fault of faults) console.log(fault);
process.exitCode = faults.length > 0 ? 3 : 0;
