//! Reads `/etc/passwd` and `/etc/group`: a static program has no name service switch.

use rustix::process::{Gid, Uid};

/// What a login would know of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) home: String,
    pub(crate) shell: String,
    /// Whether it has an entry. One without has a home that may have to be made.
    pub(crate) is_listed: bool,
}

impl User {
    /// Finds a user by name, or by number when no name matches. A number without an entry is a user all the same, as it is for a
    /// container: its group has the same number. A container gives it `/` for a home, where nothing can be written and package managers
    /// fail; here it is `/home/NUMBER`.
    pub(crate) fn find(passwd: &str, wanted: &str) -> Option<Self> {
        let number = wanted.parse::<u32>().ok();
        passwd
            .lines()
            .filter_map(Self::parse)
            .find(|user| user.name == wanted)
            .or_else(|| passwd.lines().filter_map(Self::parse).find(|user| Some(user.uid) == number))
            .or_else(|| number.filter(|&number| number != u32::MAX).map(Self::nameless))
    }

    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1)?;
        let shell = fields.next().unwrap_or_default();
        Some(Self { name, uid, gid, home: or(home, "/"), shell: or(shell, "/bin/sh"), is_listed: true })
    }

    fn nameless(number: u32) -> Self {
        let home = if number == 0 { "/root".to_owned() } else { format!("/home/{number}") };
        let name = if number == 0 { "root".to_owned() } else { number.to_string() };
        Self { name, uid: number, gid: number, home, shell: "/bin/sh".to_owned(), is_listed: number == 0 }
    }

    /// Returns the numbers to run as, with the supplementary groups `group` lists.
    pub(crate) fn identity(&self, group: &str) -> pyro_sys::spawn::Identity {
        let mut groups = vec![Gid::from_raw(self.gid)];
        for line in group.lines() {
            let mut fields = line.split(':');
            let (Some(gid), Some(members)) = (fields.nth(2).and_then(|gid| gid.parse().ok()), fields.next()) else { continue };
            if gid != self.gid && members.split(',').any(|member| member == self.name) {
                groups.push(Gid::from_raw(gid));
            }
        }
        pyro_sys::spawn::Identity { uid: Uid::from_raw(self.uid), gid: Gid::from_raw(self.gid), groups }
    }
}

fn or(text: &str, default: &str) -> String {
    if text.is_empty() { default } else { text }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n+broken\nann:x:1000:1001:Ann,,,:/home/ann:\n1002:x:5:5::/five:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nann:x:1001:\nsudo:x:27:bob,ann\nbroken\nvideo:x:44:anna\nusers:x:100:ann\n";

    fn check(wanted: &str, expected: Option<(&str, u32, u32, &str)>) {
        let user = User::find(PASSWD, wanted);
        assert_eq!(user.as_ref().map(|user| (user.name.as_str(), user.uid, user.gid, user.home.as_str())), expected, "{wanted}");
    }

    #[test]
    fn user_is_found_by_name_before_number() {
        check("ann", Some(("ann", 1000, 1001, "/home/ann")));
        check("1000", Some(("ann", 1000, 1001, "/home/ann")));
        check("1002", Some(("1002", 5, 5, "/five")));
        check("4711", Some(("4711", 4711, 4711, "/home/4711")));
        check("0", Some(("root", 0, 0, "/root")));
        check("nobody", None);
        check("4294967295", None);
        check("-1", None);
    }

    #[test]
    fn supplementary_groups_are_those_that_list_the_user() {
        let groups = User::find(PASSWD, "ann").expect("ann is there").identity(GROUP).groups;
        assert_eq!(groups.iter().map(|group| group.as_raw()).collect::<Vec<_>>(), [1001, 27, 100]);
    }
}
