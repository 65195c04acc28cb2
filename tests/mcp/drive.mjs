// Plays a story with the official TypeScript client over stdio, and says in JSON what it spoke.
//
//     drive.mjs PACKAGE STORY.json KEY=VALUE… -- SERVER ARGUMENTS…
//
// PACKAGE is what `package.json` calls a client: its current line, the one before, or an old one that knows only an older protocol.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import process from "node:process";

const words = process.argv.slice(2);
const end = words.indexOf("--");
const [library, path, ...settings] = words.slice(0, end);
const [command, ...args] = words.slice(end + 1);

// The current line is one package with two entries and speaks without sessions when told to; the older ones are folders of files.
const current = library === "@modelcontextprotocol/client";
const { Client } = await import(current ? library : `${library}/client/index.js`);
const { StdioClientTransport } = await import(current ? `${library}/stdio` : `${library}/client/stdio.js`);
const options = current ? { versionNegotiation: { mode: { pin: "2026-07-28" } } } : {};

// Says where an answer is not as expected: objects may have more fields, texts more around them.
function difference(expected, found) {
  if (typeof expected === "object" && expected !== null) {
    for (const [key, value] of Object.entries(expected)) {
      const below = difference(value, found?.[key]);
      if (below) return `\`${key}\`: ${below}`;
    }
    return undefined;
  }
  const same = typeof expected === "string" && typeof found === "string" ? found.includes(expected) : found === expected;
  return same ? undefined : `${JSON.stringify(found)} is not ${JSON.stringify(expected)}`;
}

let text = readFileSync(path, "utf8");
for (const setting of settings) {
  const [name, value] = setting.split(/=(.*)/s);
  text = text.replaceAll(`{${name}}`, () => JSON.stringify(value).slice(1, -1));
}
const steps = JSON.parse(text);

const env = { ...process.env };
const transport = new StdioClientTransport({ command, args, env });
// What was agreed on is told to the transport, which the older clients do not say anywhere else.
let protocolVersion;
transport.setProtocolVersion = (version) => {
  protocolVersion = version;
};
const client = new Client({ name: "story", version: "1.0.0" }, options);
await client.connect(transport);
try {
  // Listing first lets the client check every answer against its tool's output schema.
  const { tools } = await client.listTools();
  for (const [index, step] of steps.entries()) {
    const result = await client.callTool({ name: step.tool, arguments: step.arguments });
    const said = result.content.map((part) => part.text ?? "").join("\n");
    const told = `step ${index + 1}, ${step.tool}: ${said}`;
    assert(said && (step.says ?? []).every((part) => said.includes(part)), `${told}: it should say ${step.says}`);
    if (step.fails) {
      assert(result.isError && said.includes(step.fails) && said.includes("hint"), told);
      continue;
    }
    assert(!result.isError, told);
    assert.equal(difference(step.answer, result.structuredContent), undefined, told);
  }
  protocolVersion = client.getNegotiatedProtocolVersion?.() ?? protocolVersion;
  console.log(JSON.stringify({ protocol_version: protocolVersion, tools: tools.length, steps: steps.length }));
} finally {
  await client.close();
}
