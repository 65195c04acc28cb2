//! What the world's resolver answers, as a test says, and what it was asked.

use std::{
    collections::{HashMap, VecDeque},
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard},
};

use super::wire::{self, TRUNCATED};

const A: u16 = 1;
const CNAME: u16 = 5;
const TXT: u16 = 16;
const SERVER_FAILURE: u8 = 2;
const NO_SUCH_NAME: u8 = 3;

/// What the resolver says about a name.
#[derive(Debug, Clone)]
pub struct Answer {
    aliases: Vec<String>,
    addresses: Vec<Ipv4Addr>,
    text: Option<String>,
    ttl: u32,
    only_by_stream: bool,
    strays: bool,
    fails: bool,
}

impl Answer {
    /// These addresses, for a minute.
    #[must_use]
    pub fn addresses(addresses: &[Ipv4Addr]) -> Self {
        Self {
            aliases: Vec::new(),
            addresses: addresses.to_owned(),
            text: None,
            ttl: 60,
            only_by_stream: false,
            strays: false,
            fails: false,
        }
    }

    /// A text, to whoever asks for one.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self { text: Some(text.to_owned()), ..Self::addresses(&[]) }
    }

    /// A failure of the resolver itself.
    #[must_use]
    pub fn failure() -> Self {
        Self { fails: true, ..Self::addresses(&[]) }
    }

    /// Puts a chain of aliases before the addresses.
    #[must_use]
    pub fn through(mut self, aliases: &[&str]) -> Self {
        self.aliases = aliases.iter().map(|&alias| alias.to_owned()).collect();
        self
    }

    /// Sets how long it may be kept.
    #[must_use]
    pub const fn for_seconds(mut self, ttl: u32) -> Self {
        self.ttl = ttl;
        self
    }

    /// Is given whole only by TCP; a datagram is marked as truncated and empty.
    #[must_use]
    pub const fn only_by_stream(mut self) -> Self {
        self.only_by_stream = true;
        self
    }

    /// Is preceded by what an off-path liar would send: another id, another name, noise.
    #[must_use]
    pub const fn after_strays(mut self) -> Self {
        self.strays = true;
        self
    }
}

#[derive(Debug, Default)]
struct Zone {
    answers: HashMap<String, VecDeque<Answer>>,
    asked: Vec<(String, u16)>,
}

/// The resolver's knowledge; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Names(Arc<Mutex<Zone>>);

impl Names {
    fn zone(&self) -> MutexGuard<'_, Zone> {
        self.0.lock().expect("nobody panics with it")
    }

    /// Says what a name, or `*.suffix`, is answered with from now on.
    pub fn set(&self, name: &str, answer: Answer) {
        self.set_in_turn(name, vec![answer]);
    }

    /// Says what a name is answered with one time after the other; the last stays.
    pub fn set_in_turn(&self, name: &str, answers: Vec<Answer>) {
        self.zone().answers.insert(name.to_owned(), answers.into());
    }

    /// Returns the names the resolver was asked for, in the order they came.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.zone().asked.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Forgets what was asked so far.
    pub fn forget_asked(&self) {
        self.zone().asked.clear();
    }

    /// Answers a question: with several messages where a liar speaks, too.
    pub(super) fn answer(&self, question: &[u8], by_stream: bool) -> Vec<Vec<u8>> {
        let Some((name, kind)) = wire::asked(question) else { return Vec::new() };
        let mut zone = self.zone();
        zone.asked.push((name.clone(), kind));
        let below = || name.split_once('.').map(|(_, suffix)| format!("*.{suffix}"));
        let key = if zone.answers.contains_key(&name) { Some(name.clone()) } else { below() };
        let Some(answers) = key.and_then(|key| zone.answers.get_mut(&key)) else {
            return vec![wire::reply(question, 0, NO_SUCH_NAME, &[])];
        };
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        let answer = answer.expect("a name has at least one");
        let reply = if answer.only_by_stream && !by_stream {
            wire::reply(question, TRUNCATED, 0, &[])
        } else if answer.fails {
            wire::reply(question, 0, SERVER_FAILURE, &[])
        } else {
            wire::reply(question, 0, 0, &records(&name, kind, &answer))
        };
        if !answer.strays || by_stream {
            return vec![reply];
        }
        let mut other_id = wire::reply(question, 0, 0, &[wire::record(&name, A, 60, &[203, 0, 113, 66])]);
        other_id[0] ^= 1;
        let other_name = wire::record("other.test", A, 60, &[203, 0, 113, 66]);
        let mut elsewhere = wire::reply(question, 0, 0, &[other_name]);
        elsewhere[13] ^= 1;
        vec![other_id, elsewhere, question.to_vec(), Vec::new(), vec![0; 3000], reply]
    }
}

fn records(name: &str, kind: u16, answer: &Answer) -> Vec<Vec<u8>> {
    let mut owner = name.to_owned();
    let mut records = Vec::new();
    for alias in &answer.aliases {
        records.push(wire::record(&owner, CNAME, answer.ttl, &wire::name(alias)));
        owner.clone_from(alias);
    }
    if kind == A {
        records.extend(answer.addresses.iter().map(|address| wire::record(&owner, A, answer.ttl, &address.octets())));
    }
    if let Some(text) = answer.text.as_ref().filter(|_| kind == TXT) {
        records.push(wire::record(&owner, TXT, answer.ttl, &[&[text.len() as u8], text.as_bytes()].concat()));
    }
    records
}
