//! The MCP server: how soon it is there, what it takes while it is idle, and what a tool's call costs beyond the SDK's.

use std::{process::Stdio, time::Instant};

use anyhow::{Context as _, Result, ensure};
use pyro_sdk::contract::{Entry, operations};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
};

use super::Bench;
use crate::{
    arguments::Section,
    command::milliseconds,
    home::{Home, Standby},
    process,
    report::{Group, Report, Row, Whose},
    sample::{Samples, Target, Unit},
};

/// Calls before the first sample, of both kinds: the guest translates the code of a command's path while they go.
const WARM_UP: u32 = 10;

/// A client that speaks the protocol by the line, so that no library's time is measured.
struct Client {
    server: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    next: u64,
}

impl Client {
    /// Starts a server and says hello; returns when its tools are listed, and how long all that took.
    async fn connect(home: &Home) -> Result<(Self, f64)> {
        let mut command = home.cli(&["mcp", "serve", "--no-project-source", "--profile", "workspace-full"]);
        let begin = Instant::now();
        let mut server = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let (input, output) = (server.stdin.take().context("piped")?, server.stdout.take().context("piped")?);
        let mut client = Self { server, input, output: BufReader::new(output).lines(), next: 0 };
        let me = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "bench", "version": "1" } });
        client.request("initialize", me).await?;
        client.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await?;
        let listed = client.request("tools/list", json!({})).await?;
        let elapsed = milliseconds(begin.elapsed());
        ensure!(listed["tools"].as_array().is_some_and(|tools| tools.len() > 40), "the list of tools is short");
        Ok((client, elapsed))
    }

    async fn send(&mut self, message: &Value) -> Result<()> {
        self.input.write_all(format!("{message}\n").as_bytes()).await?;
        Ok(())
    }

    async fn request(&mut self, method: &str, params: Value) -> Result<Value> {
        self.next += 1;
        let id = self.next;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })).await?;
        loop {
            let line = self.output.next_line().await?.context("the server hung up")?;
            let mut message: Value = serde_json::from_str(&line)?;
            if message["id"] == id {
                return Ok(message["result"].take());
            }
        }
    }

    /// Calls a tool and returns how long it took.
    async fn call(&mut self, tool: &str, arguments: &Value) -> Result<f64> {
        let begin = Instant::now();
        let result = self.request("tools/call", json!({ "name": tool, "arguments": arguments })).await?;
        let elapsed = milliseconds(begin.elapsed());
        ensure!(result["isError"] == false, "{tool} failed: {result}");
        Ok(elapsed)
    }

    async fn close(mut self) -> Result<()> {
        drop(self.input);
        self.server.wait().await?;
        Ok(())
    }
}

pub(super) async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let mut group = Group::begin(Section::Mcp, "the MCP server: `pyro mcp serve` over standard input and output");
    let home = bench.home("mcp", Standby::None).await?;
    let workspace = home.create().await?;

    let [mut starts, mut idle, mut share] = std::array::from_fn(|_| Samples::default());
    for _ in 0..bench.effort.samples {
        let (client, elapsed) = Client::connect(&home).await?;
        starts.push(elapsed);
        let memory = process::memory(client.server.id().context("it runs")?)?;
        idle.push(memory.rss_mib);
        share.push(memory.pss_mib);
        client.close().await?;
    }
    group.add(Row::new(Whose::Pyro, "start, initialize, tools/list answered", Unit::Milliseconds, starts).target(Target::AtMost(50.0)));
    group.add(Row::new(Whose::Pyro, "resident memory while idle", Unit::Mebibytes, idle).target(Target::AtMost(20.0)));
    group.add(Row::new(Whose::Part, "  of it its share (pss)", Unit::Mebibytes, share));

    // The two ways take turns, so that a busy moment hits both.
    let (mut client, _) = Client::connect(&home).await?;
    let id = workspace.id().to_string();
    for (tool, arguments) in [
        ("workspace_list", json!({})),
        ("workspace_exec", json!({ "workspace": id, "command": ["/bin/true"] })),
        ("workspace_file_list", json!({ "workspace": id })),
    ] {
        let entry: &Entry = operations().iter().find(|entry| entry.definition.mcp == Some(tool)).context("it is an operation")?;
        let [mut by_tool, mut by_sdk, mut overhead] = std::array::from_fn(|_| Samples::default());
        for round in 0..bench.effort.fast_samples + WARM_UP {
            let tool_ms = client.call(tool, &arguments).await?;
            let begin = Instant::now();
            entry.invoke(home.pyro(), arguments.clone(), &pyro_sdk::Observer::none()).await?;
            let sdk_ms = milliseconds(begin.elapsed());
            if round >= WARM_UP {
                by_tool.push(tool_ms);
                by_sdk.push(sdk_ms);
                overhead.push(tool_ms - sdk_ms);
            }
        }
        group.add(Row::new(Whose::Pyro, format!("{tool} as a tool"), Unit::Milliseconds, by_tool));
        group.add(Row::new(Whose::Part, "  the same by the SDK", Unit::Milliseconds, by_sdk));
        group.add(Row::new(Whose::Pyro, "  overhead of the tool", Unit::Milliseconds, overhead).target(Target::AtMost(2.0)));
    }
    client.close().await?;
    home.close().await?;
    group.note("the overhead is of pairs taken right after each other.");
    report.finish(group);
    Ok(())
}
