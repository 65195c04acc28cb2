// Shows the server's token with every request of a program that cannot be told to: `node --import bearer.mjs PROGRAM`, the token in
// PYRO_MCP_TOKEN. Node tells of each request before its headers are sent, be it made by `fetch` or by `http`.

import { subscribe } from "node:diagnostics_channel";
import process from "node:process";

const authorization = `Bearer ${process.env.PYRO_MCP_TOKEN}`;

subscribe("undici:request:create", ({ request }) => request.addHeader("authorization", authorization));
subscribe("http.client.request.created", ({ request }) => request.setHeader("authorization", authorization));
