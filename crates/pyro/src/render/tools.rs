//! Tools of the MCP server and their costs.

use super::table::columns;
use crate::commands::mcp_tools::Listing;

/// Longest description in the table.
const DESCRIPTION_MAX_CHARS: usize = 80;

pub(crate) fn tools(listing: &Listing) -> String {
    let mut rows = vec![["TOOL", "TOKENS", "WHAT A MODEL IS TOLD"].map(ToOwned::to_owned).to_vec()];
    rows.extend(listing.costs.iter().map(|cost| {
        let mut text: String = cost.description.chars().take(DESCRIPTION_MAX_CHARS).collect();
        if text.len() < cost.description.len() {
            text.push('…');
        }
        vec![cost.name.clone(), cost.tokens.to_string(), text]
    }));
    let count = listing.costs.len();
    format!("{}\n{}: {count} tools, {} tokens of at most {}\n", columns(&rows), listing.surface, listing.tokens, listing.budget_tokens)
}
