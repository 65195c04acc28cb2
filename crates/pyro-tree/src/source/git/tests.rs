//! Configuration against the real `git config`.

use std::{fs, path::PathBuf};

use proptest::prelude::*;

use super::{
    config::{Config, Level},
    levels::{Facts, Levels},
};
use crate::source::tests::{environment, git, put, run_with};

fn line() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a", "B", "-", "=", " ", "\t", "\"", "\\", "\\n", "\\\\", "\\\"", "\\x", "#", ";", "[", "]", ".", "\u{e9}", "1", "true", "\\\n",
        "\r",
    ]);
    let odd = prop::collection::vec(piece.clone(), 0..8).prop_map(|pieces| pieces.concat());
    let value = prop::collection::vec(piece, 0..6).prop_map(|pieces| format!("\tname = {}", pieces.concat()));
    let header = prop::sample::select(vec![
        "[core]",
        "[Core]",
        "[a \"B c\"]",
        "[a  \"x\\\"y\\\\\"]",
        "[a.Sub]",
        "[a.b.C]",
        "[a-b]",
        "[a \"\"] k = v",
        "[a] k",
        "[a \"x\" ]",
        "[a\"x\"]",
        "[]",
        "[a_b]",
        "[a \"x",
        "[a] [b] c = d",
        "  [a]  ; note",
        "[a] key=",
        "key",
        "\u{feff}[a]",
        "a-b = c",
        "1a = c",
        "a = b\\",
    ]);
    prop_oneof![3 => header.prop_map(str::to_owned), 3 => value, 1 => odd]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_file_says_what_git_reads_in_it_or_is_refused_as_git_refuses_it(lines in prop::collection::vec(line(), 0..6), ends in prop::sample::select(vec!["\n", "\r\n"])) {
        let folder = tempfile::tempdir().unwrap();
        let text = lines.join(ends);
        put(folder.path(), &[("config", &text)]);
        let output = std::process::Command::new("git").args(["config", "--file", "config", "--null", "--list"]).current_dir(folder.path()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        match Config::parse(text.as_bytes(), Level::User) {
            Err(_) => prop_assert!(!output.status.success(), "git reads {told:?}"),
            Ok(config) => {
                prop_assert!(output.status.success(), "git: {}", String::from_utf8_lossy(&output.stderr));
                let found = config.settings.iter().map(|setting| {
                    let parts = [Some(&setting.section).filter(|section| !section.is_empty()), setting.subsection.as_ref(), Some(&setting.name)];
                    (parts.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join("."), setting.value.clone())
                });
                // Before 2.45, Git made blanks of tabs inside a value.
                let plain = |value: &str| value.replace('\t', " ");
                let expected = told.split_terminator('\0').map(|one| one.split_once('\n').map_or((one.to_owned(), "true".to_owned()), |(name, value)| (name.to_owned(), plain(value))));
                prop_assert_eq!(found.map(|(name, value)| (name, plain(&value))).collect::<Vec<_>>(), expected.collect::<Vec<_>>());
            }
        }
    }
}

/// Which of the conditions hold for Git, and which hold here, each being the name of a file that is included.
#[test]
fn includes_are_followed_where_git_follows_them() {
    let place = tempfile::tempdir().unwrap();
    let home = fs::canonicalize(place.path()).unwrap();
    let repository = home.join("work/Some Repo");
    fs::create_dir_all(&repository).unwrap();
    git(&repository, &["init", "-q", "-b", "feature/x"]);
    git(&repository, &["config", "remote.origin.url", "https://example.org/team/repo.git"]);
    std::os::unix::fs::symlink(home.join("work"), home.join("linked")).unwrap();
    let absolute = home.display();
    let conditions = [
        "gitdir:~/work/".to_owned(),
        "gitdir:~/work".to_owned(),
        "gitdir:~/WORK/".to_owned(),
        "gitdir/i:~/WORK/".to_owned(),
        "gitdir:work/".to_owned(),
        "gitdir:wor/".to_owned(),
        "gitdir:./work/".to_owned(),
        "gitdir:./other/".to_owned(),
        "gitdir:.git".to_owned(),
        "gitdir:**/.git".to_owned(),
        "gitdir:**/Some*/.git".to_owned(),
        "gitdir:*/.git".to_owned(),
        format!("gitdir:{absolute}/work/**"),
        format!("gitdir:{absolute}/work/*/.git"),
        format!("gitdir:{absolute}/linked/"),
        "onbranch:feature/".to_owned(),
        "onbranch:feature/x".to_owned(),
        "onbranch:feature".to_owned(),
        "onbranch:feature/*".to_owned(),
        "onbranch:*".to_owned(),
        "hasconfig:remote.*.url:https://example.org/**".to_owned(),
        "hasconfig:remote.*.url:https://example.org/*".to_owned(),
        "hasconfig:remote.*.url:https://other.org/**".to_owned(),
        "unheardof:x".to_owned(),
    ];
    let mut text = "[include]\n\tpath = plain\n\tpath = ~/tilde\n\tpath = missing\n[test]\n\thit = top\n".to_owned();
    for (index, condition) in conditions.iter().enumerate() {
        text.push_str(&format!("[includeIf \"{condition}\"]\n\tpath = c{index}\n"));
        put(&home, &[(&format!("c{index}"), &format!("[test]\n\thit = {condition}\n"))]);
    }
    text.push_str("[test]\n\thit = bottom\n");
    put(
        &home,
        &[
            (".gitconfig", &text),
            ("plain", "[test]\n\thit = plain\n[include]\n\tpath = deeper/one\n"),
            ("tilde", "[test]\n\thit = tilde\n"),
        ],
    );
    put(
        &home,
        &[
            ("deeper/one", "[include]\n\tpath = two\n"),
            ("deeper/two", "[test]\n\thit = two\n"),
            (".config/git/config", "[test]\n\thit = xdg\n"),
        ],
    );
    git(&repository, &["config", "test.hit", "repository"]);
    git(&repository, &["config", "include.path", "included"]);
    put(&repository, &[(".git/included", "[test]\n\thit = included\n")]);
    let home_text = home.display().to_string();
    let variables = [
        ("HOME", home_text.as_str()),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_COUNT", "2"),
        ("GIT_CONFIG_KEY_0", "test.hit"),
        ("GIT_CONFIG_VALUE_0", "variable"),
        ("GIT_CONFIG_KEY_1", "Test.A.B.Hit"),
        ("GIT_CONFIG_VALUE_1", "no"),
    ];
    let expected = run_with(&variables, &repository, "git", &["config", "--get-all", "test.hit"]);
    let git_dir = repository.join(".git");
    let facts = Facts { git_dir: git_dir.clone(), branch: Some("feature/x".to_owned()) };
    let config = Config::parse(&fs::read(git_dir.join("config")).unwrap(), Level::Repository).unwrap();
    let levels = Levels::read(&environment(&variables), &facts, &[(git_dir.join("config"), config)]);
    let hits = |level: Option<Level>| {
        let wanted = levels.config.settings.iter().filter(|setting| (setting.section.as_str(), setting.name.as_str()) == ("test", "hit"));
        let wanted = wanted.filter(|setting| setting.subsection.is_none() && level.is_none_or(|level| setting.level == level));
        wanted.map(|setting| setting.value.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(hits(None), expected.lines().collect::<Vec<_>>());
    assert_eq!(levels.complaints, [""; 0]);
    assert_eq!((hits(Some(Level::Repository)), hits(Some(Level::Included))), (vec!["repository"], vec!["included"]));
}

#[test]
fn files_that_include_themselves_end() {
    let place = tempfile::tempdir().unwrap();
    let own = "[include]\n\tpath = self\n".repeat(40) + "[core]\n\tautocrlf = true\n";
    put(place.path(), &[("self", &own)]);
    let path: PathBuf = place.path().join("self");
    let config = Config::parse(own.as_bytes(), Level::Repository).unwrap();
    let levels = Levels::read(&environment(&[("GIT_CONFIG_NOSYSTEM", "1")]), &Facts::default(), &[(path, config)]);
    assert_eq!(levels.config.get("core", "autocrlf"), Some("true"));
    assert!(levels.complaints.iter().any(|complaint| complaint.contains("nested more than 10 deep")), "{:?}", levels.complaints);
    assert!(levels.complaints.iter().any(|complaint| complaint.contains("includes too many files")), "{:?}", levels.complaints);
}

#[test]
fn what_cannot_be_read_of_the_users_configuration_is_said_and_the_rest_counts() {
    let place = tempfile::tempdir().unwrap();
    let home = place.path().display().to_string();
    put(
        place.path(),
        &[
            (".config/git/config", "[core\n"),
            (".gitconfig", "[core]\n\teol = crlf\n[include]\n\tpath = .\n\tpath = /dev/zero\n\tpath = ~nobody-at-all/x\n"),
        ],
    );
    let variables = [("HOME", home.as_str()), ("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_CONFIG_COUNT", "many")];
    let levels = Levels::read(&environment(&variables), &Facts::default(), &[]);
    assert_eq!(levels.config.get("core", "eol"), Some("crlf"));
    assert_eq!(levels.complaints.len(), 2, "{:?}", levels.complaints);
    assert!(levels.complaints[0].contains(".config/git/config` was ignored: its configuration is invalid at line 1"));
    assert!(levels.complaints[1].contains("`GIT_CONFIG_COUNT` were ignored: it is not a number"));
}
