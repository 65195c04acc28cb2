//! Questions that come beside one for a name's addresses, and whose answers must not contradict that one's.
//!
//! A workspace has no IPv6, so a question for it could be answered with nothing at once. But the C library asks for both kinds of addresses
//! together and makes one result of both: "nothing here" beside "the resolver does not answer" becomes "this name has no address", which
//! programs take for final (glibc 2.36, `getaddrinfo`). So such a question waits for the one beside it, and shares its fate; a moment later it
//! is still told the same.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use domain::base::iana::Rcode;

use crate::dns::Question;
use crate::policy::Name;

use super::questions::Asker;

/// How long a failure is remembered: clients that ask for one kind after the other do so at once.
const REMEMBERED: Duration = Duration::from_secs(2);
/// Most failures that are remembered.
const REMEMBERED_MAX: usize = 64;
/// Most questions that wait, whatever they wait for.
const WAITING_MAX: usize = 64;

/// Who waits for which question.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    /// Names whose addresses are being asked for, with what waits for them.
    asked: HashMap<Name, Vec<(Question, Asker)>>,
    waiting: usize,
    failed: VecDeque<(Name, Rcode, Instant)>,
}

impl Pairs {
    /// Notes that somebody is asked for a name's addresses.
    pub(super) fn ask(&mut self, name: &Name) {
        self.asked.entry(name.clone()).or_default();
    }

    /// Lets a question wait for the one beside it, or hands it back with its answer when there is none or no room.
    pub(super) fn wait(&mut self, question: Question, asker: Asker, now: Instant) -> Result<(), (Question, Asker, Rcode)> {
        if self.waiting < WAITING_MAX
            && let Some(waiting) = self.asked.get_mut(&question.name)
        {
            waiting.push((question, asker));
            self.waiting += 1;
            return Ok(());
        }
        self.forget(now);
        let failed = self.failed.iter().rev().find(|(name, ..)| *name == question.name);
        let rcode = failed.map_or(Rcode::NOERROR, |(_, rcode, _)| *rcode);
        Err((question, asker, rcode))
    }

    /// Notes how the question for a name's addresses ended, and returns what has waited for that.
    pub(super) fn conclude(&mut self, name: &Name, rcode: Rcode, now: Instant) -> Vec<(Question, Asker)> {
        self.forget(now);
        self.failed.retain(|(failed, ..)| failed != name);
        if rcode != Rcode::NOERROR {
            if self.failed.len() == REMEMBERED_MAX {
                self.failed.pop_front();
            }
            self.failed.push_back((name.clone(), rcode, now));
        }
        let waiting = self.asked.remove(name).unwrap_or_default();
        self.waiting -= waiting.len();
        waiting
    }

    fn forget(&mut self, now: Instant) {
        while self.failed.front().is_some_and(|(_, _, at)| now.duration_since(*at) >= REMEMBERED) {
            self.failed.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4};

    use super::*;
    use crate::dns::parse_question;

    fn question(name: &str) -> Question {
        let mut bytes = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            bytes.push(label.len() as u8);
            bytes.extend_from_slice(label.as_bytes());
        }
        bytes.extend([0, 0, 28, 0, 1]);
        parse_question(&bytes).expect("a question")
    }

    fn asker() -> Asker {
        Asker::Datagram { guest_port: 1, server: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 53) }
    }

    fn rcode(pairs: &mut Pairs, name: &str, now: Instant) -> Option<Rcode> {
        pairs.wait(question(name), asker(), now).err().map(|(_, _, rcode)| rcode)
    }

    #[test]
    fn question_waits_for_the_one_beside_it_and_is_told_the_same_for_a_moment() {
        let (mut pairs, now) = (Pairs::default(), Instant::now());
        assert_eq!(rcode(&mut pairs, "a.test", now), Some(Rcode::NOERROR));
        pairs.ask(&question("a.test").name);
        assert_eq!(rcode(&mut pairs, "a.test", now), None);
        assert_eq!(rcode(&mut pairs, "b.test", now), Some(Rcode::NOERROR));
        assert_eq!(pairs.conclude(&question("a.test").name, Rcode::SERVFAIL, now).len(), 1);
        assert_eq!(rcode(&mut pairs, "a.test", now + REMEMBERED / 2), Some(Rcode::SERVFAIL));
        assert_eq!(rcode(&mut pairs, "a.test", now + REMEMBERED), Some(Rcode::NOERROR));
        let _ = pairs.conclude(&question("a.test").name, Rcode::SERVFAIL, now);
        let _ = pairs.conclude(&question("a.test").name, Rcode::NOERROR, now);
        assert_eq!(rcode(&mut pairs, "a.test", now), Some(Rcode::NOERROR));
    }

    #[test]
    fn no_flood_of_questions_fills_memory() {
        let (mut pairs, now) = (Pairs::default(), Instant::now());
        pairs.ask(&question("a.test").name);
        let waiting = (0..1000).filter(|_| rcode(&mut pairs, "a.test", now).is_none()).count();
        assert_eq!(waiting, WAITING_MAX);
        for number in 0..1000 {
            let _ = pairs.conclude(&question(&format!("n{number}.test")).name, Rcode::SERVFAIL, now);
        }
        assert_eq!((pairs.failed.len(), pairs.waiting), (REMEMBERED_MAX, WAITING_MAX));
        assert_eq!(pairs.conclude(&question("a.test").name, Rcode::NOERROR, now).len(), WAITING_MAX);
        assert_eq!(pairs.waiting, 0);
    }
}
