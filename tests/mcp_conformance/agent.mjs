// An agent that calls every tool of a server once, or what the suite's context says:
// agent.mjs modern|legacy COMMAND...
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

const [era, command, ...rest] = process.argv.slice(2);
const edge = spawn(command, rest, { stdio: ["pipe", "pipe", "inherit"] });
const lines = createInterface({ input: edge.stdout })[Symbol.asyncIterator]();
const capabilities = { elicitation: { form: { applyDefaults: true } }, sampling: {}, roots: {} };
const clientInfo = { name: "agent", version: "1" };
const meta = {
  "io.modelcontextprotocol/protocolVersion": "2026-07-28",
  "io.modelcontextprotocol/clientInfo": clientInfo,
  "io.modelcontextprotocol/clientCapabilities": capabilities,
};
let last = 0;

const say = (message) => edge.stdin.write(JSON.stringify({ jsonrpc: "2.0", ...message }) + "\n");

// What a form's fields have as defaults.
function defaults({ properties = {} }) {
  const given = Object.entries(properties).filter(([, field]) => field.default !== undefined);
  return Object.fromEntries(given.map(([name, field]) => [name, field.default]));
}

function answer({ id, method, params }) {
  if (method === "elicitation/create") {
    return say({ id, result: { action: "accept", content: defaults(params.requestedSchema ?? {}) } });
  }
  if (method === "roots/list") return say({ id, result: { roots: [] } });
  if (method === "ping") return say({ id, result: {} });
  return say({ id, error: { code: -32601, message: "not done by this agent" } });
}

// The result of a request, or its error.
async function ask(method, params) {
  const id = ++last;
  say({ id, method, params: era === "modern" ? { ...params, _meta: meta } : params });
  for (;;) {
    const { value, done } = await lines.next();
    if (done) throw new Error("the edge has ended");
    const message = JSON.parse(value);
    if (message.method !== undefined && message.id !== undefined) answer(message);
    else if (message.id === id) return message;
  }
}

// A call, with input given for as long as it is wanted.
async function call(name, args) {
  let more = {};
  for (let round = 0; round < 10; round++) {
    const { result } = await ask("tools/call", { name, arguments: args, ...more });
    if (result?.resultType !== "input_required") return;
    const inputs = Object.entries(result.inputRequests ?? {});
    const given = inputs.map(([key, { params }]) => [key, { action: "accept", content: defaults(params?.requestedSchema ?? {}) }]);
    more = { inputResponses: Object.fromEntries(given) };
    if (result.requestState !== undefined) more.requestState = result.requestState;
  }
}

// Something for each field that has to be there; for a schema, that of another tool.
function fill(schema, other) {
  const one = { string: "text", number: 3, integer: 3, boolean: true, array: [], object: {}, null: null };
  const fields = Object.entries(schema?.properties ?? {});
  return Object.fromEntries(fields.map(([name, field]) => [name, field.default ?? field.enum?.[0] ?? (/schema/i.test(name) ? other : one[field.type]) ?? "text"]));
}

if (era === "modern") {
  await ask("server/discover", {});
} else {
  await ask("initialize", { protocolVersion: "2025-11-25", capabilities, clientInfo });
  say({ method: "notifications/initialized" });
}
const { result } = await ask("tools/list", {});
const tools = result?.tools ?? [];
const { toolCalls } = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? "{}");
const made = tools.map((tool) => {
  const other = tools.find(({ name }) => name !== tool.name)?.inputSchema;
  return { name: tool.name, arguments: fill(tool.inputSchema, other) };
});
for (const { name, arguments: args } of toolCalls ?? made) await call(name, args);
edge.stdin.end();
