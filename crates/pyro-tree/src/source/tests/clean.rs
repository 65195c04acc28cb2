//! A checkout that is clean here is clean where it is seeded, for a Git that knows nothing of this host; or the report says why not.

use super::*;

/// A home with its configuration, and a repository `r` in it.
struct Home(TempDir);

impl Home {
    fn new(files: &[(&str, &str)]) -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        put(home.0.path(), files);
        fs::create_dir_all(home.repository()).unwrap();
        home.git(&["init", "-q", "-b", "main"]);
        home
    }

    fn repository(&self) -> std::path::PathBuf {
        self.0.path().join("r")
    }

    fn path(&self) -> String {
        self.0.path().display().to_string()
    }

    /// Runs Git as the user of this home: the newest there is, where the seed is looked at by the distribution's.
    fn git(&self, arguments: &[&str]) -> String {
        const NEWEST: &str = "/usr/local/bin/git";
        let git = if Path::new(NEWEST).exists() { NEWEST } else { "git" };
        run_with(&[("HOME", &self.path())], &self.repository(), git, arguments)
    }

    /// Commits files and writes them anew, as a checkout does.
    fn commit(&self, files: &[(&str, &str)]) {
        put(&self.repository(), files);
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", "one"]);
        for (path, _) in files {
            fs::remove_file(self.repository().join(path)).unwrap();
        }
        self.git(&["checkout", "-q", "."]);
    }

    fn take(&self) -> (Taken, SourceReport) {
        let git_environment = environment(&[("HOME", &self.path()), ("GIT_CONFIG_NOSYSTEM", "1")]);
        take(&self.repository(), &SourceOptions { git_environment, ..SourceOptions::default() })
    }

    /// Seeds the checkout, which is clean, and returns what Git says of the seed, and what is noted.
    #[track_caller]
    fn seeded(&self) -> (String, Vec<String>) {
        assert_eq!(self.git(&["status", "--porcelain"]), "", "on the host");
        let (taken, report) = self.take();
        let copy = tempfile::tempdir().unwrap();
        taken.unpack(copy.path());
        assert_eq!(git(copy.path(), &["log", "--format=%H %s"]), self.git(&["log", "--format=%H %s"]));
        (
            git(copy.path(), &["status", "--porcelain"]),
            report.notes.into_iter().map(|note| format!("{}: {}", note.path, note.text)).collect(),
        )
    }

    #[track_caller]
    fn check_clean(&self) {
        assert_eq!(self.seeded(), (String::new(), Vec::new()));
    }
}

#[test]
fn line_ends_of_the_users_configuration_stay_clean() {
    let text = [("t.txt", "a\nb\n"), ("sub/u.txt", "c\n")];
    for configuration in [
        "[core]\n\tautocrlf = true\n",
        "[core]\n\tautocrlf = input\n\tsafecrlf = warn\n",
        "[core]\n\teol = crlf\n\tattributesFile = ~/attributes\n",
        "[include]\n\tpath = more\n",
        "[includeIf \"gitdir:~/r/\"]\n\tpath = more\n",
        "[includeIf \"onbranch:main\"]\n\tpath = more\n",
    ] {
        let home = Home::new(&[(".gitconfig", configuration), ("more", "[core]\n\tautocrlf = true\n"), ("attributes", "* text=auto\n")]);
        home.commit(&text);
        home.check_clean();
        // The seed has no clean checkout by accident.
        let crlf = fs::read(home.repository().join("t.txt")).unwrap().contains(&b'\r');
        assert_eq!(crlf, !configuration.contains("input"), "{configuration}");
    }
}

#[test]
fn attributes_of_the_user_count_and_those_of_the_checkout_more() {
    let home = Home::new(&[(".config/git/attributes", "*.txt text eol=crlf\n*.bin -text\n*.doc diff=word\n")]);
    home.commit(&[
        (".gitattributes", "lf.txt text eol=lf\n"),
        ("t.txt", "a\n"),
        ("lf.txt", "a\n"),
        ("sub/u.txt", "b\n"),
        ("a.bin", "c\r\n"),
    ]);
    home.check_clean();
    let (taken, _) = home.take();
    assert_eq!(taken.text(".git/info/attributes-of-the-host"), "*.txt text eol=crlf\n*.bin -text\n");
    assert!(fs::read(home.repository().join("t.txt")).unwrap().contains(&b'\r'));
    // Seen from a folder below the top, too.
    let copy = tempfile::tempdir().unwrap();
    taken.unpack(copy.path());
    assert!(git(&copy.path().join("sub"), &["check-attr", "eol", "u.txt"]).contains("eol: crlf"));
}

#[test]
fn a_repository_cannot_name_a_file_of_the_host_whose_lines_it_gets() {
    let home = Home::new(&[("secret", "password text\n"), ("r/own-attributes", "*.txt text eol=crlf\n")]);
    home.git(&["config", "core.attributesFile", "own-attributes"]);
    home.commit(&[("t.txt", "a\n")]);
    home.check_clean();
    for named in ["~/secret", "../secret", "link"] {
        let _ = symlink("../secret", home.repository().join("link"));
        home.git(&["config", "core.attributesFile", named]);
        let (taken, report) = home.take();
        assert!(report.notes[0].text.contains("is outside the repository"), "{:?}", report.notes);
        assert!(taken.0.values().all(|(_, _, content)| !content.windows(8).any(|window| window == b"password")), "{named}");
    }
}

#[test]
fn modes_links_and_untracked_files_are_seen_as_the_user_has_it() {
    let home = Home::new(&[(".gitconfig", "[core]\n\tfileMode = false\n[status]\n\tshowUntrackedFiles = no\n")]);
    home.git(&["config", "--unset", "core.fileMode"]);
    home.commit(&[("run.sh", "x\n")]);
    fs::set_permissions(home.repository().join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    put(&home.repository(), &[("untracked", "")]);
    home.check_clean();
    let home = Home::new(&[]);
    symlink("target", home.repository().join("link")).unwrap();
    home.git(&["config", "core.symlinks", "false"]);
    home.git(&["add", "-A"]);
    home.git(&["commit", "-q", "-m", "link"]);
    fs::remove_file(home.repository().join("link")).unwrap();
    home.git(&["checkout", "-q", "."]);
    home.check_clean();
}

#[test]
fn indexes_of_every_make_are_read() {
    for settings in [
        &["core.untrackedCache", "true"][..],
        &["core.splitIndex", "true"],
        &["core.fsmonitor", "/bin/true"],
        &["index.version", "4", "feature.manyFiles", "true"],
        &["core.ignoreCase", "true"],
        &["core.quotePath", "false", "core.precomposeUnicode", "true"],
        &["index.skipHash", "true", "index.threads", "2"],
    ] {
        let home = Home::new(&[]);
        for pair in settings.chunks(2) {
            home.git(&["config", pair[0], pair[1]]);
        }
        home.commit(&[("a.txt", "a\n"), ("sub/b.txt", "b\n"), ("sub/deep/c", "c\n"), ("\u{e9}", "d")]);
        home.git(&["update-index", "--refresh"]);
        home.check_clean();
    }
}

#[test]
fn a_head_that_is_a_link_becomes_a_file() {
    let home = Home::new(&[]);
    home.git(&["config", "core.preferSymlinkRefs", "true"]);
    home.commit(&[("a", "1\n")]);
    fs::remove_file(home.repository().join(".git/HEAD")).unwrap();
    symlink("refs/heads/main", home.repository().join(".git/HEAD")).unwrap();
    home.check_clean();
    let (taken, report) = home.take();
    assert_eq!(taken.text(".git/HEAD"), "ref: refs/heads/main\n");
    assert_eq!(report.origin_ref.unwrap(), home.git(&["rev-parse", "HEAD"]).trim());
}

#[test]
fn sparse_checkouts_stay_sparse() {
    for arguments in [&["--cone"][..], &["--cone", "--sparse-index"], &["--no-cone"]] {
        let home = Home::new(&[]);
        home.commit(&[("a/x", "x\n"), ("b/y", "y\n"), ("b/c/z", "z\n"), ("top", "t\n")]);
        home.git(&[&["sparse-checkout", "set"], arguments, &["a"]].concat());
        assert!(!home.repository().join("b").exists());
        home.check_clean();
    }
}

#[test]
fn rules_outside_of_a_sparse_checkout_are_said_to_be_missing() {
    let home = Home::new(&[]);
    home.commit(&[(".gitignore", "*.log\n"), ("a/x", "x\n")]);
    put(&home.repository(), &[("a/debug.log", "")]);
    home.git(&["sparse-checkout", "set", "--no-cone", "/a/"]);
    assert_eq!(home.git(&["status", "--porcelain"]), "");
    let (taken, report) = home.take();
    assert!(taken.0.contains_key("a/debug.log"));
    assert!(report.notes.len() == 1 && report.notes[0].text.contains("`.gitignore` is not in the sparse checkout"), "{:?}", report.notes);
}

#[test]
fn clones_that_are_not_whole_work_or_say_what_they_lack() {
    let origin = Home::new(&[]);
    origin.commit(&[("a", "1\n"), ("b", "2\n")]);
    origin.commit(&[("a", "3\n")]);
    origin.git(&["config", "uploadpack.allowFilter", "true"]);
    let address = format!("file://{}", origin.repository().display());
    let clone = |arguments: &[&str]| {
        let home = Home::new(&[]);
        fs::remove_dir_all(home.repository()).unwrap();
        run(home.0.path(), "git", &[&["clone", "-q"], arguments, &[&address, "r"]].concat());
        home
    };
    clone(&["--depth", "1"]).check_clean();
    clone(&["--filter=tree:0", "--no-checkout", "--depth", "1"]);
    let home = clone(&["--filter=blob:none"]);
    let (status, notes) = home.seeded();
    assert_eq!(status, "");
    assert_eq!(notes.len(), 1);
    assert!(notes[0].starts_with(".git: it is a partial clone; ") && notes[0].contains(&address), "{notes:?}");
    // Git in the seed knows where the rest is.
    let (taken, _) = home.take();
    let copy = tempfile::tempdir().unwrap();
    taken.unpack(copy.path());
    assert_eq!(git(copy.path(), &["show", "HEAD~1:a"]), "1\n");
    assert_eq!(git(copy.path(), &["config", "remote.origin.partialclonefilter"]), "blob:none\n");
}

#[test]
fn a_repository_of_another_object_format_works() {
    let home = Home::new(&[]);
    fs::remove_dir_all(home.repository().join(".git")).unwrap();
    home.git(&["init", "-q", "-b", "main", "--object-format=sha256"]);
    home.commit(&[("a", "1\n")]);
    home.check_clean();
}

#[test]
fn extensions_that_mean_nothing_in_a_seed_are_dropped_and_others_are_said() {
    let home = Home::new(&[]);
    home.commit(&[("a", "1\n")]);
    let head = home.git(&["log", "--format=%H"]);
    let seeded = |extension: &str| {
        put(&home.repository(), &[(".git/config", &format!("[core]\n\trepositoryformatversion = 1\n[extensions]\n\t{extension}\n"))]);
        let (taken, report) = home.take();
        let copy = tempfile::tempdir().unwrap();
        taken.unpack(copy.path());
        (copy, report.notes)
    };
    for extension in [
        "relativeWorktrees = true",
        "worktreeConfig = true",
        "compatObjectFormat = sha256",
        "submodulePathConfig",
        "refStorage = files",
        "noop-v1",
    ] {
        let (copy, notes) = seeded(extension);
        assert_eq!((git(copy.path(), &["log", "--format=%H"]), notes), (head.clone(), Vec::new()), "{extension}");
    }
    let (_copy, notes) = seeded("timeMachine = true");
    assert!(notes[0].text.contains("`extensions.timemachine`"), "{notes:?}");
}

/// Returns a Git that makes reftables, if there is one on this host.
fn git_with_reftables() -> Option<&'static str> {
    let found = ["/usr/local/bin/git", "/usr/bin/git"].into_iter().find(|git| {
        let place = tempfile::tempdir().unwrap();
        let output = Command::new(git).args(["init", "-q", "--ref-format=reftable"]).current_dir(place.path()).output();
        output.is_ok_and(|output| output.status.success())
    });
    if found.is_none() {
        eprintln!("not tested with a repository of Git's: no Git here makes reftables");
    }
    found
}

#[test]
fn references_in_reftables_become_files() {
    let Some(newer) = git_with_reftables() else { return };
    let home = tempfile::tempdir().unwrap();
    let repository = home.path().join("r");
    fs::create_dir(&repository).unwrap();
    let new_git = |folder: &Path, arguments: &[&str]| run(folder, newer, arguments);
    new_git(&repository, &["init", "-q", "-b", "main", "--ref-format=reftable"]);
    put(&repository, &[("a", "1\n")]);
    new_git(&repository, &["add", "a"]);
    new_git(&repository, &["commit", "-q", "-m", "one"]);
    new_git(&repository, &["tag", "-a", "-m", "note", "v1"]);
    // More than fit into one block.
    let many: String = (0..300).map(|index| format!("create refs/heads/some/long/name/of/a/branch/{index} HEAD\n")).collect();
    put(home.path(), &[("many", &many)]);
    run(&repository, "sh", &["-c", &format!("{newer} update-ref --stdin < ../many")]);
    new_git(&repository, &["update-ref", "refs/remotes/origin/main", "HEAD"]);
    new_git(&repository, &["symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main"]);
    new_git(&repository, &["update-ref", "-d", "refs/heads/some/long/name/of/a/branch/7"]);
    new_git(&repository, &["update-ref", "refs/bisect/bad", "HEAD"]);
    let linked = home.path().join("linked");
    new_git(&repository, &["worktree", "add", "-q", "-b", "other", &linked.display().to_string()]);
    for (source, packed) in [(&repository, false), (&linked, false), (&repository, true), (&linked, true)] {
        if packed {
            new_git(&repository, &["pack-refs", "--all"]);
        }
        let (taken, report) = take(source, &SourceOptions::default());
        let copy = tempfile::tempdir().unwrap();
        taken.unpack(copy.path());
        let shown = ["for-each-ref", "--format=%(refname) %(objectname) %(*objectname) %(symref)"];
        assert_eq!(git(copy.path(), &shown), new_git(source, &shown));
        assert_eq!(
            git(copy.path(), &["rev-parse", "--symbolic-full-name", "HEAD"]),
            new_git(source, &["rev-parse", "--symbolic-full-name", "HEAD"])
        );
        assert_eq!(git(copy.path(), &["status", "--porcelain"]), "");
        assert_eq!(report.origin_ref.unwrap(), new_git(source, &["rev-parse", "HEAD"]).trim());
        assert!(report.notes.len() == 1 && report.notes[0].text.contains("reflogs, and stashes with them"), "{:?}", report.notes);
    }
}

#[test]
fn filters_that_a_machine_lacks_are_said_by_name_and_number() {
    let home = Home::new(&[(
        ".gitconfig",
        "[filter \"lfs\"]\n\tclean = tr a b\n\tsmudge = tr b a\n[filter \"indent\"]\n\tprocess = \n[filter \"kept\"]\n\tclean = cat\n",
    )]);
    home.commit(&[
        (".gitattributes", "[attr]large filter=lfs -text\n*.bin large\n*.c filter=indent\n*.x filter=unknown\n"),
        ("one.bin", "aaa\n"),
        ("sub/two.bin", "aaa\n"),
        ("sub/.gitattributes", "kept filter=kept\n"),
        ("sub/kept", "k\n"),
        ("main.c", "c\n"),
        ("a.x", "x\n"),
    ]);
    let (status, notes) = home.seeded();
    assert_eq!(status, " M one.bin\n M sub/two.bin\n");
    assert_eq!(
        notes,
        [
            ".git: 1 tracked file appears modified in the workspace unless it has the Git filter `kept`",
            ".git: 2 tracked files appear modified in the workspace unless it has the Git filter `lfs`; \
             run `apt-get install git-lfs && git lfs install` there to fix this",
        ]
    );
    // Content that was never fetched looks the same with the filter and without it.
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    put(&home.repository(), &[("one.bin", pointer), ("sub/two.bin", pointer)]);
    let (_, report) = home.take();
    assert!(report.notes.iter().all(|note| !note.text.contains("lfs")), "{:?}", report.notes);
    // And where no program is configured, files are stored as they are.
    fs::remove_file(home.0.path().join(".gitconfig")).unwrap();
    assert_eq!(home.take().1.notes, []);
}
