// Purchases and reads over HTTP by k6: each virtual user buys for an account of its own, and then
// looks at what is left.
//
//   k6 run --vus 64 --duration 10s bench/k6/buy.js
//
// ADDR names another server, SALE another sale; item 1 of it has to be open, without a limit.

import http from "k6/http";
import { check } from "k6";
import exec from "k6/execution";

const sale = `http://${__ENV.ADDR || "127.0.0.1:7480"}/v1/sales/${__ENV.SALE || "1"}`;
// Two runs on one server must not repeat each other's request ids.
const run = Date.now();

export const options = { thresholds: { checks: ["rate==1"] } };

export default function () {
  const account = `k6-${run}-${exec.scenario.iterationInTest}`;
  const lines = [{ item: 1, quantity: 1 }];
  const body = JSON.stringify({ account, action: "buy", lines });
  const headers = { "Content-Type": "application/json", "Idempotency-Key": account };
  const bought = http.post(`${sale}/orders`, body, { headers });
  check(bought, { "bought": (answer) => answer.status === 201 });
  const left = http.get(`${sale}/availability`);
  check(left, { "read": (answer) => answer.status === 200 });
}
