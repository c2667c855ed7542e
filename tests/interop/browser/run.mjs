// A browser without a window as a peer of a relay: node run.mjs BROWSER URL SHA256 SUITE DRAFT
// Prints TAP. The page comes from this program, at an address that the browser thinks secure.

import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const [browser, url, sha256, suite, draft] = process.argv.slice(2);
const here = dirname(fileURLToPath(import.meta.url));
const script = await readFile(process.env.BUNDLE ?? join(here, "bundle.js"));
const page = '<!doctype html><meta charset="utf-8"><script type="module" src="/bundle.js"></script>';

const profile = await mkdtemp(join(tmpdir(), "aip-browser-"));
let child;

const results = new Promise((resolve) => {
  const server = createServer((request, response) => {
    if (request.method === "POST") {
      let body = "";
      request.on("data", (piece) => (body += piece));
      request.on("end", () => {
        response.end();
        resolve(body);
      });
    } else if (request.url === "/bundle.js") {
      response.setHeader("content-type", "text/javascript");
      response.end(script);
    } else {
      response.setHeader("content-type", "text/html");
      response.end(page);
    }
  });
  server.listen(0, "127.0.0.1", () => start(server.address().port));
});

function start(port) {
  const query = new URLSearchParams({ url, sha256, suite, draft });
  // No sandbox: tests run as root, and the page is ours.
  child = spawn(
    browser,
    [
      "--headless=new",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-dev-shm-usage",
      `--user-data-dir=${profile}`,
      `http://127.0.0.1:${port}/?${query}`,
    ],
    { stdio: ["ignore", "ignore", process.env.VERBOSE ? "inherit" : "ignore"] },
  );
  child.on("error", (error) => {
    console.log(`not ok - start\n  ---\n  message: ${JSON.stringify(`${error}`)}\n  ...`);
    process.exit(1);
  });
}

const late = setTimeout(() => {
  console.log("not ok - page\n  ---\n  message: no result within 90 s\n  ...");
  child?.kill();
  process.exit(1);
}, 90_000);

const lines = await results;
clearTimeout(late);
console.log(lines);
child.kill();
await new Promise((resolve) => child.on("exit", resolve));
await rm(profile, { recursive: true, force: true, maxRetries: 5 });
process.exit(lines.includes("not ok") ? 1 : 0);
