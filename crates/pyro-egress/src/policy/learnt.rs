//! Which names lately resolved to an address: what ties a dialled address back to the name that was allowed.
//!
//! Kept longer than the answer says (a floor and some grace, since clients hold on to addresses) but never for long (a cap), and bounded in
//! number: the pair that expires first makes room. The table remembers answers whatever the policy; policy is applied when they are used.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::name::Name;

/// The least time a pair is kept: resolvers hand out seconds, package managers take a while between looking up and dialling.
pub const TTL_FLOOR: Duration = Duration::from_secs(120);
/// The most time a pair is kept, and the largest TTL that the guest is told, so that it asks again before its address is forgotten.
pub const TTL_MAX: Duration = Duration::from_secs(3600);
/// What is added to each: the guest's clock of the answer starts later than ours.
pub const TTL_GRACE: Duration = Duration::from_secs(30);
/// The most pairs of address and name; at some 400 bytes each the table stays below 2 MiB.
pub const LEARNT_PAIRS_MAX: usize = 4096;
/// The most names one address is known by; shared front ends have many, and each dial looks at all of them.
const NAMES_PER_ADDRESS_MAX: usize = 32;

/// The pairs of address and name that answers gave.
#[derive(Debug, Default)]
pub struct Learnt {
    by_address: HashMap<Ipv4Addr, Vec<(Name, Instant)>>,
    addresses_of: HashMap<Name, usize>,
    by_end: BTreeSet<(Instant, Ipv4Addr, Name)>,
}

impl Learnt {
    /// Remembers that a name resolved to an address.
    pub fn learn(&mut self, address: Ipv4Addr, name: &Name, ttl: Duration, now: Instant) {
        self.forget_expired(now);
        let end = now + ttl.clamp(TTL_FLOOR, TTL_MAX) + TTL_GRACE;
        let names = self.by_address.entry(address).or_default();
        if let Some(index) = names.iter().position(|(known, _)| known == name) {
            let (known, old_end) = names.remove(index);
            // A shorter TTL than last time does not take back what the guest was told then.
            names.push((known, end.max(old_end)));
            if end > old_end {
                self.by_end.remove(&(old_end, address, name.clone()));
                self.by_end.insert((end, address, name.clone()));
            }
            return;
        }
        let crowded = (names.len() >= NAMES_PER_ADDRESS_MAX)
            .then(|| names.iter().min_by_key(|(_, end)| *end).map(|(name, end)| (*end, address, name.clone())))
            .flatten();
        names.push((name.clone(), end));
        *self.addresses_of.entry(name.clone()).or_default() += 1;
        self.by_end.insert((end, address, name.clone()));
        if let Some(pair) = crowded {
            self.forget(&pair);
        }
        if self.by_end.len() > LEARNT_PAIRS_MAX
            && let Some(first) = self.by_end.first().cloned()
        {
            self.forget(&first);
        }
    }

    /// Returns the names that lately resolved to an address, the latest learnt last.
    #[must_use]
    pub fn names_at(&self, address: Ipv4Addr, now: Instant) -> Vec<Name> {
        let names = self.by_address.get(&address).map(Vec::as_slice).unwrap_or_default();
        names.iter().filter(|(_, end)| *end > now).map(|(name, _)| name.clone()).collect()
    }

    /// Returns whether a name lately resolved to anything.
    #[must_use]
    pub fn knows(&self, name: &Name) -> bool {
        self.addresses_of.contains_key(name)
    }

    /// Returns how many pairs are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_end.len()
    }

    /// Returns whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_end.is_empty()
    }

    fn forget_expired(&mut self, now: Instant) {
        while let Some(first) = self.by_end.first().filter(|(end, ..)| *end <= now).cloned() {
            self.forget(&first);
        }
    }

    fn forget(&mut self, pair: &(Instant, Ipv4Addr, Name)) {
        self.by_end.remove(pair);
        let (_, address, name) = pair;
        if let Some(names) = self.by_address.get_mut(address) {
            names.retain(|(known, _)| known != name);
            if names.is_empty() {
                self.by_address.remove(address);
            }
        }
        if let Some(count) = self.addresses_of.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                self.addresses_of.remove(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn an_answer_is_kept_between_floor_and_cap() {
        let start = Instant::now();
        let address = Ipv4Addr::new(203, 0, 113, 5);
        let mut learnt = Learnt::default();
        learnt.learn(address, &name("short.example"), Duration::ZERO, start);
        learnt.learn(address, &name("long.example"), Duration::from_secs(1 << 30), start);
        let at = |learnt: &Learnt, seconds: u64| learnt.names_at(address, start + Duration::from_secs(seconds));
        assert_eq!(at(&learnt, 149), [name("short.example"), name("long.example")]);
        assert_eq!(at(&learnt, 150), [name("long.example")]);
        assert_eq!(at(&learnt, 3629), [name("long.example")]);
        assert!(at(&learnt, 3630).is_empty());
    }

    #[test]
    fn a_name_that_is_asked_for_again_is_the_latest() {
        let start = Instant::now();
        let address = Ipv4Addr::new(203, 0, 113, 5);
        let mut learnt = Learnt::default();
        // The last one with a shorter time to live, which takes back nothing.
        for (label, seconds) in [("a", 600), ("b", 600), ("a", 60)] {
            learnt.learn(address, &name(&format!("{label}.example")), Duration::from_secs(seconds), start);
        }
        assert_eq!(learnt.names_at(address, start), [name("b.example"), name("a.example")]);
        assert_eq!(learnt.names_at(address, start + Duration::from_secs(400)).len(), 2);
    }

    #[test]
    fn one_address_with_endless_names_stays_bounded() {
        let start = Instant::now();
        let address = Ipv4Addr::new(203, 0, 113, 5);
        let mut learnt = Learnt::default();
        for number in 0..1000 {
            learnt.learn(address, &name(&format!("n{number}.example")), TTL_FLOOR, start + Duration::from_millis(number));
        }
        assert_eq!(learnt.len(), NAMES_PER_ADDRESS_MAX);
        assert!(learnt.knows(&name("n999.example")));
        assert!(!learnt.knows(&name("n0.example")));
    }

    proptest! {
        #[test]
        fn the_indexes_agree_and_stay_bounded(answers in prop::collection::vec((0_u32..6000, 0_u32..40, 0_u64..8000, 0_u64..500), 0..400)) {
            let mut now = Instant::now();
            let mut learnt = Learnt::default();
            for (address, label, ttl, pause) in answers {
                now += Duration::from_secs(pause);
                learnt.learn(Ipv4Addr::from_bits(address), &name(&format!("n{label}.example")), Duration::from_secs(ttl), now);
                prop_assert!(learnt.by_end.len() <= LEARNT_PAIRS_MAX);
                prop_assert_eq!(learnt.by_address.values().map(Vec::len).sum::<usize>(), learnt.by_end.len());
                prop_assert_eq!(learnt.addresses_of.values().sum::<usize>(), learnt.by_end.len());
                prop_assert!(learnt.names_at(Ipv4Addr::from_bits(address), now).len() <= NAMES_PER_ADDRESS_MAX);
            }
        }
    }
}
