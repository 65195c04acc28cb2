//! Random trees and edits in a real guest, with `git apply` and the guest's own checksums as oracles.

use std::{fs, path::Path, process::Command};

use pyro_tests::Home;

/// A small generator of its own: the same trees in every run, without a dependency.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        // xorshift64*: good enough to pick files.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    fn name(&mut self) -> String {
        let folder = ["", "a/", "a/b/", "c d/"][usize::try_from(self.below(4)).expect("small")];
        format!("{folder}f{}", self.below(12))
    }

    fn text(&mut self) -> String {
        let lines = self.below(30);
        let mut text: String = (0..lines).map(|_| format!("line {}\n", self.below(9))).collect();
        if self.below(4) == 0 {
            text.push_str("no newline");
        }
        text
    }
}

fn plant(folder: &Path, random: &mut Random) {
    for _ in 0..25 {
        let path = folder.join(random.name());
        fs::create_dir_all(path.parent().expect("it has one")).expect("writable");
        fs::write(path, random.text()).expect("writable");
    }
}

/// Writes a shell script of edits; each either happens or finds nothing to do.
fn edits(random: &mut Random) -> String {
    let mut script = String::from("cd /workspace; ");
    for _ in 0..20 {
        let (one, two) = (random.name(), random.name());
        let text = random.text().replace('\n', "\\n");
        let edit = match random.below(7) {
            0 => format!("rm -f '{one}'"),
            1 => format!("mkdir -p \"$(dirname '{one}')\"; rm -f '{one}'; printf '{text}' > '{one}'"),
            2 => format!("[ -f '{one}' ] && printf '{text}' >> '{one}'"),
            3 => format!("[ -f '{one}' ] && [ ! -L '{one}' ] && chmod 755 '{one}'"),
            4 => format!("mkdir -p \"$(dirname '{two}')\"; [ -e '{one}' ] && mv -f '{one}' '{two}' 2>/dev/null"),
            5 => format!("[ -e '{one}' ] && touch '{one}'"),
            _ => format!("mkdir -p \"$(dirname '{one}')\"; ln -sfn '{two}' '{one}'"),
        };
        script.push_str(&edit);
        script.push_str("; ");
    }
    script.push_str("true");
    script
}

/// Paths, modes as Git keeps them, and contents of everything but folders, by one and the same script on both sides.
const LOOK: &str = "find . -name .git -prune -o -type f -print -o -type l -print | LC_ALL=C sort | while read -r f; do \
                    if [ -L \"$f\" ]; then echo \"$f -> $(readlink \"$f\")\"; else \
                    x=-; [ -x \"$f\" ] && x=x; echo \"$f $x $(sha256sum < \"$f\")\"; fi; done";

fn look_here(folder: &Path) -> String {
    let output = Command::new("sh").arg("-c").arg(LOOK).current_dir(folder).output().expect("sh runs");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

#[test]
fn random_edits_come_out_as_a_patch_git_applies_and_a_reset_takes_them_back() {
    let home = Home::new();
    for round in 1..=4u64 {
        let mut random = Random(round.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let seed = home.path().join(format!("seed{round}"));
        fs::create_dir_all(&seed).expect("writable");
        plant(&seed, &mut random);
        let w = home.create(&["--seed-path", &seed.to_string_lossy()]);
        let guest = |script: &str| home.sh(&w, &format!("cd /workspace && {script}"));
        assert_eq!(guest(LOOK), look_here(&seed), "round {round}: the seed");
        let _ = home.sh(&w, &edits(&mut random));
        let first = guest(LOOK);
        let patch = home.path().join(format!("patch{round}"));
        fs::write(&patch, home.pyro(&["workspace", "diff", &w]).ok().stdout).expect("writable");
        if fs::metadata(&patch).expect("is there").len() > 0 {
            let applied = Command::new("git")
                .arg("apply")
                .arg("--whitespace=nowarn")
                .arg(&patch)
                .current_dir(&seed)
                .env("GIT_CEILING_DIRECTORIES", home.path())
                .output();
            let applied = applied.expect("git runs");
            assert!(applied.status.success(), "round {round}: {}", String::from_utf8_lossy(&applied.stderr));
        }
        assert_eq!(look_here(&seed), first, "round {round}: the patch makes the workspace's tree of the seed");
        let kind: &[&str] = if round % 2 == 0 { &["--live"] } else { &[] };
        let _ = home.pyro(&[&["workspace", "snapshot", "create", &w, "s"], kind].concat()).ok();
        let _ = home.sh(&w, &edits(&mut random));
        let _ = home.pyro(&["workspace", "reset", &w, "--snapshot", "s"]).ok();
        assert_eq!(guest(LOOK), first, "round {round}: the snapshot's tree, byte for byte");
        let _ = home.pyro(&["workspace", "delete", &w, "--force"]).ok();
    }
    home.assert_nothing_left();
}
