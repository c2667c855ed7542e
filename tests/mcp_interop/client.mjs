// What the TypeScript SDK's client sees of a server: client.mjs TOOL ARGUMENTS (URL | COMMAND...).
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const [tool, args, ...target] = process.argv.slice(2);
const transport = target[0].startsWith("http")
  ? new StreamableHTTPClientTransport(new URL(target[0]))
  : new StdioClientTransport({ command: target[0], args: target.slice(1), stderr: "ignore", env: process.env });
const client = new Client({ name: "interop", version: "1" });
await client.connect(transport);

// All pages of a list; what the error says if there is none.
async function listed(ask, name) {
  const items = [];
  try {
    for (let cursor; ; ) {
      const page = await ask(cursor === undefined ? {} : { cursor });
      items.push(...page[name]);
      cursor = page.nextCursor;
      if (cursor === undefined) return items;
    }
  } catch (error) {
    return { error: error.code ?? String(error) };
  }
}

const seen = {
  server: client.getServerVersion(),
  capabilities: client.getServerCapabilities(),
  tools: await listed((params) => client.listTools(params), "tools"),
  prompts: await listed((params) => client.listPrompts(params), "prompts"),
  resources: await listed((params) => client.listResources(params), "resources"),
  templates: await listed((params) => client.listResourceTemplates(params), "resourceTemplates"),
  called: await client.callTool({ name: tool, arguments: JSON.parse(args) }),
};
if (Array.isArray(seen.resources) && seen.resources.length > 0) {
  seen.read = await client.readResource({ uri: seen.resources[0].uri });
}
await client.close();
console.log(JSON.stringify(seen, null, 1));
process.exit(0);
