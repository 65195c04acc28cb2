/**
 * The three profiles of `pyro mcp serve`, one after the other, each for what it is made for:
 *
 *   vm-run          one command in a machine that is gone afterwards
 *   workspace-core  a machine that stays between calls: reproduce a bug, fix it, bring the fix home
 *   workspace-full  what else a machine has: services, shells, snapshots to go back to
 *
 * It makes the calls that a model would make. A program that has no model in it may well stop here.
 */

import { mkdirSync } from "node:fs";
import { resolve } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import type { CallToolResult } from "@modelcontextprotocol/sdk/types.js";

type Profile = "vm-run" | "workspace-core" | "workspace-full";
type Answer = Record<string, any>;

const { values: options } = parseArgs({
  options: {
    environment: { type: "string", default: "debian:12-base" },
    output: { type: "string", default: "fixed" },
    project: { type: "string", default: resolve(import.meta.dirname, "../project") },
    pyro: { type: "string", default: "pyro" },
  },
});
// Enough for a small project, and less to copy when it is snapshotted or forked.
const machine = { environment: options.environment, mem_mib: 256 };

/** What a tool says when it could not do what it was asked for; `kind` is stable, `hint` says what to do next. */
class ToolError extends Error {
  constructor(tool: string, result: CallToolResult) {
    super(`${tool}: ${textOf(result)}`);
  }
}

function textOf(result: CallToolResult): string {
  return result.content.map((part) => (part.type === "text" ? part.text : "")).join("\n");
}

/** Calls a tool and returns its structured answer. */
async function call(client: Client, name: string, args: Answer): Promise<Answer> {
  const result = (await client.callTool({ name, arguments: args })) as CallToolResult;
  if (result.isError) {
    throw new ToolError(name, result);
  }
  return result.structuredContent ?? {};
}

/** Starts a server with a profile, has something done with it, and ends it. */
async function withServer(profile: Profile, story: (client: Client) => Promise<void>): Promise<void> {
  const client = new Client({ name: "pyro-progression", version: "1.0.0" });
  const env = Object.fromEntries(Object.entries(process.env).filter(([, value]) => value !== undefined)) as Record<string, string>;
  await client.connect(new StdioClientTransport({ command: options.pyro, args: ["mcp", "serve", "--profile", profile], env }));
  try {
    const { tools } = await client.listTools();
    console.log(`\n== ${profile}: ${tools.length} tools`);
    await story(client);
  } finally {
    await client.close();
  }
}

/** Makes a workspace with the sample project, has something done in it, and deletes it whatever happened. */
async function withWorkspace(client: Client, story: (workspace: string) => Promise<void>): Promise<void> {
  const created = await call(client, "workspace_create", { ...machine, seed_path: options.project });
  const workspace: string = created.workspace_id;
  console.log(`created ${workspace} with ${created.workspace_seed.entry_count} files`);
  try {
    await story(workspace);
  } finally {
    await call(client, "workspace_delete", { workspace, force: true });
    console.log(`deleted ${workspace}`);
  }
}

async function test(client: Client, workspace: string, expected: number): Promise<void> {
  const { exit_code, stdout } = await call(client, "workspace_exec", { workspace, command: ["sh", "test.sh"] });
  console.log(`test.sh exits with ${exit_code}: ${stdout.trim()}`);
  if (exit_code !== expected) {
    throw new Error(`test.sh should have exited with ${expected}`);
  }
}

async function oneCommand(client: Client): Promise<void> {
  const { stdout } = await call(client, "vm_run", { ...machine, command: "uname -sr; nproc" });
  console.log(`a machine of its own: ${stdout.trim().replace("\n", ", processors: ")}`);
}

async function reproduceAndFix(client: Client, workspace: string): Promise<void> {
  await test(client, workspace, 1);
  const { matches } = await call(client, "workspace_file_search", { workspace, pattern: "-gt 10" });
  console.log(`found in ${matches[0].path}, line ${matches[0].line}`);
  try {
    await call(client, "workspace_file_replace", { workspace, path: "price.sh", old: "-gt 11", new: "-ge 10" });
  } catch (error) {
    // What models do now and then: they quote from memory. The hint brings them back.
    if (!(error instanceof ToolError)) throw error;
    console.log(`refused as it should be: ${error.message}`);
  }
  await call(client, "workspace_file_replace", { workspace, path: "price.sh", old: "-gt 10", new: "-ge 10" });
  await test(client, workspace, 0);
  const { patch } = await call(client, "workspace_diff", { workspace });
  console.log(patch);
  mkdirSync(options.output, { recursive: true });
  const output = resolve(options.output, "price.sh");
  await call(client, "workspace_export", { workspace, path: "price.sh", output, force: true });
  console.log(`exported ${output}`);
}

async function liveInIt(client: Client, workspace: string): Promise<void> {
  await call(client, "snapshot_create", { workspace, name: "before" });

  // A service goes on between calls, and after this program: here one that runs the tests again and again.
  const watch = 'while :; do sh test.sh > /dev/null; echo "exit code $?"; touch /run/tested; sleep 1; done';
  const service = await call(client, "service_start", { workspace, name: "watch", command: watch, ready_file: "/run/tested" });
  const { log } = await call(client, "service_logs", { workspace, name: "watch", tail_lines: 1 });
  console.log(`service watch is ${service.outcome}; the newest line of its log: ${log.trim()}`);

  // A shell keeps its folder, its variables and what runs in it. Each write answers where to read on.
  const { shell_id } = await call(client, "shell_open", { workspace });
  await call(client, "shell_read", { workspace, shell_id, wait_for_idle_ms: 5000 });
  const input = "sed -i 's/-gt/-ge/' price.sh && sh test.sh";
  const { cursor } = await call(client, "shell_write", { workspace, shell_id, input });
  const { output } = await call(client, "shell_read", { workspace, shell_id, cursor, plain: true, wait_for_idle_ms: 5000 });
  console.log(output.trim());
  await call(client, "shell_close", { workspace, shell_id });

  // Back to before, both disks: what was installed is gone as well as what was edited.
  await call(client, "workspace_reset", { workspace, snapshot: "before" });
  const { changed } = await call(client, "workspace_diff", { workspace });
  console.log(`after the reset the workspace ${changed ? "differs from" : "is equal to"} its seed`);
}

try {
  await withServer("vm-run", oneCommand);
  await withServer("workspace-core", (client) => withWorkspace(client, (workspace) => reproduceAndFix(client, workspace)));
  await withServer("workspace-full", (client) => withWorkspace(client, (workspace) => liveInIt(client, workspace)));
} catch (error) {
  console.error(`error: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
}
