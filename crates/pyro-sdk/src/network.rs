//! What a workspace may reach: rules in the registry, taken over by the supervisor; and learning which of them a command needs.

use std::{collections::BTreeSet, time::Duration};

use pyro_proto::{
    error::ErrorKind,
    v1::{NetworkApplyRequest, NetworkFlushRequest, NetworkLearnAnswer, NetworkLearnRequest},
};
use pyro_store::{NetworkPolicy as StoredPolicy, NetworkRules, WorkspaceRecord, WorkspaceState};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    CommandSpec, Observer, Pyro, Workspace,
    client::Reap,
    contract::{NetworkAllow, NetworkAnswer, NetworkDeny, NetworkLearn, NetworkLearnAnswer as Answer, NetworkList, WorkspaceCreate},
    error::{Cause, Error, Problem, Result},
    exec::{ANSWER_DEADLINE, Stdin},
    limits::MaxOutputBytes,
    supervisor::Client,
    text::{NetworkGroup, NetworkRule},
};

/// Most rules of a workspace, of each kind.
const RULES_MAX: usize = 1024;
/// How long the last entries of a log may take to be written.
const FLUSH_DEADLINE: Duration = Duration::from_secs(30);
/// How many entries of a log are looked at, at once.
const ENTRIES_AT_ONCE: usize = 10_000;

impl Pyro {
    /// Returns the rules a new workspace begins with.
    pub(crate) fn network_rules(&self, request: &WorkspaceCreate) -> Result<NetworkRules> {
        let mut allow: Vec<String> = request.allow_hosts.iter().map(ToString::to_string).collect();
        allow.extend(self.rules_of(&request.allow_groups)?);
        let deny: Vec<String> = request.deny_hosts.iter().map(ToString::to_string).collect();
        let policy = request.network_policy;
        let some = !allow.is_empty() || !deny.is_empty() || !request.allow_groups.is_empty();
        if some && !policy.has_egress() {
            let with_egress = with_egress(policy.into()).as_str();
            return Err(Problem::RulesWithoutEgress { with_egress }.into());
        }
        // Also a group without a rule says that there are to be no others.
        let only_allowed = !allow.is_empty() || !request.allow_groups.is_empty();
        let rules = NetworkRules { only_allowed, allow, deny, host_certificates: !request.no_host_certificates };
        checked(rules)
    }

    fn rules_of(&self, groups: &[NetworkGroup]) -> Result<Vec<String>> {
        let known = &self.configuration().network_groups;
        let mut rules = Vec::new();
        for group in groups {
            let Some(found) = known.get(group) else {
                let known = known.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                return Err(Problem::NoNetworkGroup { name: group.to_string(), known }.into());
            };
            rules.extend(found.iter().map(ToString::to_string));
        }
        Ok(rules)
    }

    /// Allows a workspace to reach more; when this returns it may.
    ///
    /// # Errors
    /// There is no such workspace or group, the workspace has no egress, or there would be too many rules; nothing is changed then.
    pub async fn allow_network(&self, request: NetworkAllow) -> Result<NetworkAnswer> {
        let mut rules: Vec<String> = request.rules.iter().map(ToString::to_string).collect();
        rules.extend(self.rules_of(&request.allow_groups)?);
        if rules.is_empty() && !request.only {
            return Err(Problem::NothingToAllow.into());
        }
        let (detail, named) = (json!({ "allow": rules, "only": request.only }), request.workspace.to_string());
        let change = move |known: &mut NetworkRules| {
            known.deny.retain(|rule| !rules.contains(rule));
            if let Some((rule, deny)) = denied(&rules, &known.deny) {
                return Err(Problem::StillDenied { workspace: named, rule, deny }.into());
            }
            add(&mut known.allow, rules);
            known.only_allowed |= request.only;
            Ok(())
        };
        self.change_network(&request.workspace, detail, change).await
    }

    /// Forbids a workspace to reach something; when this returns it may not, and what was connected to it is reset.
    ///
    /// # Errors
    /// There is no such workspace, the workspace has no egress, or there would be too many rules; nothing is changed then.
    pub async fn deny_network(&self, request: NetworkDeny) -> Result<NetworkAnswer> {
        let rules: Vec<String> = request.rules.iter().map(ToString::to_string).collect();
        let detail = json!({ "deny": rules });
        let change = move |known: &mut NetworkRules| {
            known.allow.retain(|rule| !rules.contains(rule));
            add(&mut known.deny, rules);
            Ok(())
        };
        self.change_network(&request.workspace, detail, change).await
    }

    /// Tells what a workspace may reach. Does not count as activity and needs no machine.
    ///
    /// # Errors
    /// There is no such workspace.
    pub async fn list_network(&self, request: &NetworkList) -> Result<NetworkAnswer> {
        let (_, record) = self.find(&request.workspace, Reap::WhenDue).await?;
        Ok(describe(&record, 0))
    }

    async fn change_network(
        &self,
        reference: &crate::text::WorkspaceReference,
        detail: Value,
        change: impl FnOnce(&mut NetworkRules) -> Result<()> + Send + 'static,
    ) -> Result<NetworkAnswer> {
        let (workspace, record) = self.find(reference, Reap::WhenDue).await?;
        workspace.must_have_egress(&record)?;
        let id = record.id.clone();
        let record = self
            .store(move |_, registry| {
                let change = |mut rules: NetworkRules| {
                    change(&mut rules)?;
                    checked(rules)
                };
                registry.change_network_rules(&id, &detail, change)??;
                registry.touch_workspace(&id)?;
                Ok(registry.workspace(&id)?)
            })
            .await
            .map_err(|error| error.about(workspace.label()))?;
        let ended = if record.state == WorkspaceState::Running {
            let call = |mut client: Client| async move { client.network_apply(NetworkApplyRequest {}).await };
            workspace.ask(&record, "change the network rules of", ANSWER_DEADLINE, call).await?.ended
        } else {
            0
        };
        Ok(describe(&record, ended))
    }

    /// Runs a command with egress open and tells the narrowest rules that allow what it reached.
    ///
    /// # Errors
    /// As [`Workspace::learn`], or the command cannot be run.
    pub async fn learn_network(&self, request: NetworkLearn, _observer: &Observer) -> Result<Answer> {
        let workspace = self.workspace(&request.workspace).await?;
        let learning = workspace.learn().await?;
        let spec = CommandSpec { timeout: request.timeout_seconds, stdin: Stdin::Empty, ..CommandSpec::new(request.command) };
        let answer = workspace.start_command(&spec).await?.collect(MaxOutputBytes::default(), None).await?;
        let learnt = learning.finish().await?;
        Ok(Answer {
            workspace_id: workspace.id().to_string(),
            sequence: answer.sequence.unwrap_or_default(),
            exit_code: answer.exit_code,
            timed_out: answer.timed_out,
            flags: learnt.flags(),
            group: learnt.group(&request.group),
            rules: learnt.rules,
            refused: learnt.refused,
        })
    }
}

fn add(known: &mut Vec<String>, rules: Vec<String>) {
    for rule in rules {
        if !known.contains(&rule) {
            known.push(rule);
        }
    }
}

/// Finds a rule of which a deny rule leaves nothing.
fn denied(rules: &[String], deny: &[String]) -> Option<(String, String)> {
    let parse = |text: &String| text.parse::<NetworkRule>().ok();
    let covering = |rule: &String| deny.iter().find(|deny| parse(rule).zip(parse(deny)).is_some_and(|(rule, deny)| rule.is_within(&deny)));
    rules.iter().find_map(|rule| Some((rule.clone(), covering(rule)?.clone())))
}

fn checked(rules: NetworkRules) -> Result<NetworkRules> {
    match rules.allow.len().max(rules.deny.len()) {
        0..=RULES_MAX => Ok(rules),
        count => Err(Problem::TooManyNetworkRules { count, maximum: RULES_MAX }.into()),
    }
}

fn describe(record: &WorkspaceRecord, ended: u64) -> NetworkAnswer {
    let rules = record.network_rules.clone();
    NetworkAnswer {
        workspace_id: record.id.to_string(),
        network_policy: record.network_policy.into(),
        only_allowed: rules.only_allowed,
        allow: rules.allow,
        deny: rules.deny,
        ended_connection_count: ended,
    }
}

const fn with_egress(policy: StoredPolicy) -> StoredPolicy {
    if policy.has_published_ports() { StoredPolicy::EgressAndPublishedPorts } else { StoredPolicy::Egress }
}

/// A workspace whose egress is open. Dropping it closes it again.
#[derive(Debug)]
pub struct Learning {
    workspace: Workspace,
    requests: mpsc::Sender<NetworkLearnRequest>,
    answers: tonic::Streaming<NetworkLearnAnswer>,
    after: u64,
}

/// What was reached while egress was open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Learnt {
    /// The narrowest rules that allow it.
    pub rules: Vec<String>,
    /// What was refused even so, by the narrowest rule that would allow it.
    pub refused: Vec<String>,
}

impl Learnt {
    /// Returns the rules as flags of `pyro workspace create`.
    #[must_use]
    pub fn flags(&self) -> String {
        // A shell would look for files that match a wildcard.
        let flag = |rule: &String| if rule.contains('*') { format!("--allow-host '{rule}'") } else { format!("--allow-host {rule}") };
        self.rules.iter().map(flag).collect::<Vec<_>>().join(" ")
    }

    /// Returns the rules as a group for `config.toml`.
    #[must_use]
    pub fn group(&self, name: &NetworkGroup) -> String {
        let rules: Vec<String> = self.rules.iter().map(|rule| format!("  \"{rule}\",\n")).collect();
        format!("[network_groups]\n{name} = [\n{}]\n", rules.concat())
    }

    fn from_entries(entries: &[Map<String, Value>]) -> Self {
        let mut reached: std::collections::BTreeMap<u64, String> = std::collections::BTreeMap::new();
        let mut refused = BTreeSet::new();
        for entry in entries {
            let text = |key: &str| entry.get(key).and_then(Value::as_str);
            match (text("event"), text("destination")) {
                (Some("opened" | "closed"), Some(destination)) => {
                    let Some(flow) = entry.get("flow").and_then(Value::as_u64) else { continue };
                    // The end of a connection knows the name it showed, its beginning only that which was asked for.
                    let rule = match (text("name"), destination.rsplit_once(':')) {
                        (Some(name), Some((_, port))) => format!("{name}:{port}"),
                        (Some(name), None) => name.to_owned(),
                        (None, _) => destination.to_owned(),
                    };
                    reached.insert(flow, rule);
                }
                (Some("refused"), _) => refused.extend(text("would_allow").map(ToOwned::to_owned)),
                _ => {}
            }
        }
        let rules: BTreeSet<String> = reached.into_values().filter(|rule| rule.parse::<NetworkRule>().is_ok()).collect();
        Self { rules: rules.into_iter().collect(), refused: refused.into_iter().collect() }
    }
}

impl Learning {
    /// Closes egress again and tells what was reached. When this returns it is closed.
    ///
    /// # Errors
    /// The log cannot be read, or the workspace has ended meanwhile.
    pub async fn finish(mut self) -> Result<Learnt> {
        drop(self.requests);
        let closed = async { while let Ok(Some(NetworkLearnAnswer {})) = self.answers.message().await {} };
        // A supervisor that cannot close it ends the machine.
        drop(tokio::time::timeout(ANSWER_DEADLINE, closed).await);
        let record = self.workspace.record().await?;
        let call = |mut client: Client| async move { client.network_flush(NetworkFlushRequest {}).await };
        self.workspace.ask(&record, "read the network log of", FLUSH_DEADLINE, call).await?;
        let (id, after) = (record.id, self.after);
        self.workspace
            .pyro()
            .store(move |pyro, _| {
                let log = pyro.dirs().network_log(&id);
                let (mut entries, mut after) = (Vec::new(), after);
                loop {
                    let (page, _) = log.read(after, ENTRIES_AT_ONCE)?;
                    let Some(last) = page.last().and_then(|entry| entry.get("sequence")).and_then(Value::as_u64) else { break };
                    after = last;
                    entries.extend(page);
                }
                Ok(Learnt::from_entries(&entries))
            })
            .await
    }
}

impl Workspace {
    fn must_have_egress(&self, record: &WorkspaceRecord) -> Result<()> {
        let policy = record.network_policy;
        if policy.has_egress() {
            return Ok(());
        }
        let refused = Problem::NoEgress {
            workspace: self.label().to_owned(),
            policy: policy.as_str(),
            with_egress: with_egress(policy).as_str(),
            environment: record.environment.clone(),
        };
        Err(Error::from(refused).about(self.label()))
    }

    /// Opens egress, but for what is denied, until what is returned is finished or dropped.
    ///
    /// # Errors
    /// The workspace does not run, or has no egress.
    pub async fn learn(&self) -> Result<Learning> {
        let record = self.record().await?;
        self.must_have_egress(&record)?;
        let (requests, said) = mpsc::channel(1);
        let call = |mut client: Client| async move { client.network_learn(ReceiverStream::new(said)).await };
        let mut answers = self.ask(&record, "open egress of", ANSWER_DEADLINE, call).await?;
        let Ok(Ok(Some(NetworkLearnAnswer {}))) = tokio::time::timeout(ANSWER_DEADLINE, answers.message()).await else {
            let cause = Cause::new("its supervisor did not say that it is open");
            return Err(Error::workspace("open egress of", self.label(), ErrorKind::MachineFailed, cause).about(self.label()));
        };
        let id = record.id.clone();
        let after = self.pyro().store(move |_, registry| Ok(registry.network_log_end(&id)?.sequence)).await?;
        Ok(Learning { workspace: self.clone(), requests, answers, after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(values: Value) -> Vec<Map<String, Value>> {
        values.as_array().unwrap().iter().map(|entry| entry.as_object().unwrap().clone()).collect()
    }

    #[test]
    fn rules_are_learnt_from_connections_by_the_name_they_showed() {
        let learnt = Learnt::from_entries(&entries(json!([
            { "event": "question", "name": "files.example", "outcome": "answered" },
            { "event": "opened", "flow": 1, "destination": "203.0.113.7:443", "name": "alias.example" },
            { "event": "closed", "flow": 1, "destination": "203.0.113.7:443", "name": "files.example" },
            { "event": "opened", "flow": 2, "destination": "203.0.113.8:443", "name": "files.example" },
            { "event": "opened", "flow": 3, "destination": "203.0.113.9:5432" },
            { "event": "opened", "flow": 4, "protocol": "echo", "destination": "203.0.113.10" },
            { "event": "refused", "destination": "10.0.0.5:80", "would_allow": "10.0.0.5:80" },
            { "event": "refused", "destination": "203.0.113.1:80" },
        ])));
        assert_eq!(learnt.rules, ["203.0.113.10", "203.0.113.9:5432", "files.example:443"]);
        assert_eq!(learnt.refused, ["10.0.0.5:80"]);
        assert_eq!(learnt.flags(), "--allow-host 203.0.113.10 --allow-host 203.0.113.9:5432 --allow-host files.example:443");
        let group = learnt.group(&"web".parse().unwrap());
        let read: toml::Table = group.parse().unwrap();
        assert_eq!(read["network_groups"]["web"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn a_rule_is_added_once() {
        let mut known = vec!["a".to_owned()];
        add(&mut known, vec!["a".into(), "b".into(), "b".into()]);
        assert_eq!(known, ["a", "b"]);
        assert!(checked(NetworkRules { deny: vec![String::new(); RULES_MAX + 1], ..NetworkRules::default() }).is_err());
    }
}
