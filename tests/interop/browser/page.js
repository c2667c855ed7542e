// Runs one suite, by what stands behind `?`, and posts what came of it.

import { cases as ofMoqNet } from "./moq-net.js";
import { cases as plain } from "./plain.js";

const parameters = new URLSearchParams(location.search);
const value = Uint8Array.from(parameters.get("sha256").match(/../g), (byte) => parseInt(byte, 16));
const options = { serverCertificateHashes: [{ algorithm: "sha-256", value }] };
const suites = { plain, "moq-net": ofMoqNet };
const cases = suites[parameters.get("suite")](parameters.get("url"), options, parameters.get("draft"));

const timeout = () =>
  new Promise((_, reject) => setTimeout(() => reject(new Error("nothing within 10 s")), 10_000));

const lines = [];
for (const [name, run] of Object.entries(cases)) {
  try {
    await Promise.race([run(), timeout()]);
    lines.push(`ok - ${name}`);
  } catch (error) {
    lines.push(`not ok - ${name}`, "  ---", `  message: ${JSON.stringify(`${error}`)}`, "  ...");
  }
}
await fetch("/results", { method: "POST", body: lines.join("\n") });
