//! What the operator lets workspaces reach at most.
//!
//! Without a word from the operator no tool opens a way out: a model that reads a hostile page must not be able to send away what it has
//! seen. With `--max-network-policy egress` and `--allow-host` it may, to these hosts.

use pyro_sdk::{
    contract::{NetworkAnswer, NetworkPolicy},
    text::NetworkRule,
};
use serde_json::{Value, json};

use super::{answer::Refusal, schema::Object};

/// Fields that say what a workspace may reach.
const RULES: [&str; 2] = ["allow_hosts", "allow_groups"];
/// Fields that mean nothing without egress.
const EGRESS_FIELDS: [&str; 5] = ["network", "allow_hosts", "allow_groups", "deny_hosts", "no_host_certificates"];

/// What a guest may reach, and what may reach it, at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reach {
    pub(super) policy: NetworkPolicy,
    /// Hosts beyond which no workspace reaches; all when none is given.
    pub(super) hosts: Vec<NetworkRule>,
}

impl Default for Reach {
    fn default() -> Self {
        Self { policy: NetworkPolicy::PublishedPorts, hosts: Vec::new() }
    }
}

impl Reach {
    /// Tells whether a tool is offered at all.
    pub(super) fn offers(&self, tool: &str) -> bool {
        match tool {
            "port_publish" => self.policy.has_published_ports(),
            "network_allow" | "network_deny" => self.policy.has_egress(),
            _ => true,
        }
    }

    /// Takes what is not allowed out of a schema.
    pub(super) fn narrow(&self, properties: &mut Object) {
        if !self.policy.has_published_ports() {
            properties.remove("publish");
        }
        let hidden: &[&str] = if self.policy.has_egress() { &[] } else { &EGRESS_FIELDS };
        for field in hidden {
            properties.remove(*field);
        }
        if !self.hosts.is_empty() {
            properties.remove("allow_groups");
        }
        if self.policy == NetworkPolicy::Off {
            properties.remove("network_policy");
        } else if let Some(choices) = properties.get_mut("network_policy").and_then(|property| property["enum"].as_array_mut()) {
            choices.retain(|choice| policy(choice).is_none_or(|wanted| wanted.is_within(self.policy)));
        }
    }

    /// Holds a call's arguments to the limits. Where the operator named hosts, a workspace that names none may reach those.
    pub(super) fn apply(&self, tool: &str, takes: impl Fn(&str) -> bool, arguments: &mut Object) -> Result<(), Refusal> {
        if let Some(wanted) = arguments.get("network_policy").and_then(policy)
            && !wanted.is_within(self.policy)
        {
            return Err(self.too_much(wanted.as_str()));
        }
        let is_set = |field: &str| {
            arguments.get(field).is_some_and(|value| !matches!(value, Value::Null | Value::Bool(false)) && *value != json!([]))
        };
        let opens = is_set("network") || tool == "network_allow";
        if !self.policy.has_egress() && (opens || EGRESS_FIELDS.iter().any(|field| is_set(field))) {
            return Err(self.too_much(NetworkPolicy::Egress.as_str()));
        }
        if self.hosts.is_empty() {
            return Ok(());
        }
        if is_set("allow_groups") {
            return Err(self.beyond("a group"));
        }
        for field in [RULES[0], "rules"] {
            if field == "rules" && tool != "network_allow" {
                continue;
            }
            for rule in arguments.get(field).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
                // What is no rule is the contract's to refuse.
                if rule.parse::<NetworkRule>().is_ok_and(|rule| !self.covers(&rule)) {
                    return Err(self.beyond(&format!("`{rule}`")));
                }
            }
        }
        let wants_egress = is_set("network") || arguments.get("network_policy").and_then(policy).is_some_and(NetworkPolicy::has_egress);
        if wants_egress && takes(RULES[0]) && !is_set(RULES[0]) {
            arguments.insert(RULES[0].to_owned(), json!(self.hosts));
        }
        Ok(())
    }

    /// Tells whether a workspace, whoever made it, reaches no more than is allowed.
    pub(super) fn allows(&self, network: &NetworkAnswer) -> bool {
        let within = network.network_policy.is_within(self.policy);
        if !within || !network.network_policy.has_egress() || self.hosts.is_empty() {
            return within;
        }
        let covered = |rule: &String| rule.parse::<NetworkRule>().is_ok_and(|rule| self.covers(&rule));
        network.only_allowed && network.allow.iter().all(covered)
    }

    /// Tells whether everything is allowed.
    pub(super) fn is_unlimited(&self) -> bool {
        self.policy == NetworkPolicy::EgressAndPublishedPorts && self.hosts.is_empty()
    }

    fn covers(&self, rule: &NetworkRule) -> bool {
        self.hosts.iter().any(|host| rule.is_within(host))
    }

    fn too_much(&self, wanted: &str) -> Refusal {
        let (message, hint) = if self.policy == NetworkPolicy::Off {
            ("this server allows no network".to_owned(), "leave network_policy away")
        } else {
            let message = format!("this server allows network_policy {} at most, not {wanted}", self.policy.as_str());
            (message, "work without it, or ask the operator for more")
        };
        Refusal::limit(message, format!("{hint}; the operator set --max-network-policy {}", self.policy.as_str()))
    }

    fn beyond(&self, what: &str) -> Refusal {
        let hosts = self.hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Refusal::limit(
            format!("{what} is beyond what this server lets workspaces reach"),
            format!("name hosts within {hosts}; the operator set --allow-host"),
        )
    }
}

fn policy(value: &Value) -> Option<NetworkPolicy> {
    serde_json::from_value(value.clone()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Object {
        value.as_object().cloned().expect("an object")
    }

    fn apply(reach: &Reach, tool: &str, arguments: Value) -> Result<Object, Refusal> {
        let mut arguments = object(arguments);
        reach.apply(tool, |field| field == "allow_hosts", &mut arguments).map(|()| arguments)
    }

    fn reach(policy: NetworkPolicy, hosts: &[&str]) -> Reach {
        Reach { policy, hosts: hosts.iter().map(|host| host.parse().expect("a rule")).collect() }
    }

    #[test]
    fn nothing_leads_out_unless_the_operator_says_so() {
        let closed = Reach::default();
        for asked in
            [json!({ "network_policy": "egress" }), json!({ "network_policy": "egress+published-ports" }), json!({ "network": true })]
        {
            assert_eq!(apply(&closed, "workspace_create", asked).expect_err("refused").kind, "limit_exceeded");
        }
        assert!(apply(&closed, "network_allow", json!({ "rules": [] })).is_err());
        for asked in [json!({ "network_policy": "published-ports" }), json!({ "network_policy": "nonsense" }), json!({ "network": false })]
        {
            assert!(apply(&closed, "workspace_create", asked).is_ok());
        }
        assert!(apply(&reach(NetworkPolicy::Egress, &[]), "workspace_create", json!({ "network_policy": "egress" })).is_ok());
        assert!(apply(&reach(NetworkPolicy::Egress, &[]), "workspace_create", json!({ "network_policy": "published-ports" })).is_err());
    }

    #[test]
    fn rules_stay_within_the_operators_hosts() {
        let reach = reach(NetworkPolicy::Egress, &["*.example.org:443", "203.0.113.0/24"]);
        let made = apply(&reach, "workspace_create", json!({ "network_policy": "egress" })).expect("allowed");
        assert_eq!(made["allow_hosts"], json!(["*.example.org:443", "203.0.113.0/24"]));
        for (rule, allowed) in [
            ("a.example.org:443", true),
            ("*.b.example.org:443", true),
            ("203.0.113.7:80", true),
            ("a.example.org", false),
            ("example.org:443", false),
            ("203.0.0.0/16", false),
        ] {
            let created = apply(&reach, "workspace_create", json!({ "network_policy": "egress", "allow_hosts": [rule] }));
            assert_eq!(created.is_ok(), allowed, "{rule}");
            assert_eq!(apply(&reach, "network_allow", json!({ "rules": [rule] })).is_ok(), allowed, "{rule}");
        }
        assert!(apply(&reach, "network_deny", json!({ "rules": ["elsewhere.example"] })).is_ok());
        assert!(apply(&reach, "workspace_create", json!({ "network_policy": "egress", "allow_groups": ["any"] })).is_err());
    }

    #[test]
    fn a_schema_offers_what_is_allowed() {
        let mut properties = object(json!({
            "network_policy": { "enum": ["off", "egress", "egress+published-ports", "published-ports"] }, "allow_hosts": {}, "publish": {},
        }));
        Reach::default().narrow(&mut properties);
        assert_eq!(properties["network_policy"]["enum"], json!(["off", "published-ports"]));
        assert!(!properties.contains_key("allow_hosts") && properties.contains_key("publish"));
        reach(NetworkPolicy::Off, &[]).narrow(&mut properties);
        assert!(properties.is_empty());
    }
}
