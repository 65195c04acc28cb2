//! Links, FIFOs and sockets in a workspace: what single-file operations do with them, on a running guest and on its disk.

use std::fs;

use pyro_tests::{Home, Output};

fn refused(output: &Output, code: i32, parts: &[&str]) {
    assert_eq!(output.code, code, "{}", output.stderr);
    for part in parts {
        assert!(output.stderr.contains(part), "`{part}` is missing in: {}", output.stderr);
    }
}

#[test]
fn links_are_read_written_replaced_and_searched_through_and_stay_links() {
    let home = Home::new();
    let w = home.create(&[]);
    let file = |arguments: &[&str]| home.pyro(&[&["workspace", "file"], arguments].concat());
    let _ = home.sh(
        &w,
        "mkdir docs; echo old >docs/AGENTS.md; chmod 640 docs/AGENTS.md; chown 1000:1001 docs/AGENTS.md; ln docs/AGENTS.md hard
         ln -s docs/AGENTS.md CLAUDE.md; ln -s /workspace/CLAUDE.md chain; ln -s /workspace/docs d; ln -s docs/new dangling",
    );
    let written = file(&["write", &w, "CLAUDE.md", "--text", "one\n", "--json"]).ok().json();
    assert_eq!((written["path"].as_str(), written["link_target"].as_str()), (Some("CLAUDE.md"), Some("docs/AGENTS.md")), "{written}");
    assert_eq!(
        home.sh(&w, "readlink CLAUDE.md; cat docs/AGENTS.md; stat -c '%a %u %g' docs/AGENTS.md"),
        "docs/AGENTS.md\none\n640 1000 1001"
    );
    assert_eq!(home.sh(&w, "cat hard"), "old", "another hard link keeps what it had, as with any editor that replaces a file");
    let replaced = file(&["replace", &w, "chain", "--old", "one", "--new", "two", "--json"]).ok().json();
    assert_eq!(replaced["link_target"], "docs/AGENTS.md", "{replaced}");
    let read = file(&["read", &w, "chain", "--json"]).ok().json();
    assert_eq!(
        (read["content"].as_str(), read["artifact_type"].as_str(), read["link_target"].as_str()),
        (Some("two\n"), Some("file"), Some("docs/AGENTS.md")),
        "{read}"
    );
    assert_eq!(file(&["read", &w, "d/AGENTS.md", "--lines", "1", "--content-only"]).ok().text(), "two");
    let _ = file(&["write", &w, "dangling", "--text", "made\n"]).ok();
    let _ = file(&["write", &w, "d/sub/deep.txt", "--text", "through an absolute link\n"]).ok();
    assert_eq!(
        home.sh(&w, "cat docs/new docs/sub/deep.txt; readlink dangling chain d"),
        "made\nthrough an absolute link\ndocs/new\n/workspace/CLAUDE.md\n/workspace/docs"
    );
    let found = file(&["search", &w, "two", "--path", "d", "--json"]).ok().json();
    assert_eq!(found["matches"][0]["path"], "docs/AGENTS.md", "{found}");
    let _ = home.pyro(&["workspace", "stop", &w]).ok();
    let read = home.pyro(&["workspace", "disk", "read", &w, "chain", "--json"]).ok().json();
    assert_eq!((read["content"].as_str(), read["link_target"].as_str()), (Some("two\n"), Some("docs/AGENTS.md")), "{read}");
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}

#[test]
fn links_that_lead_out_or_nowhere_are_refused_by_name() {
    let home = Home::new();
    let w = home.create(&[]);
    let file = |arguments: &[&str]| home.pyro(&[&["workspace", "file"], arguments].concat());
    let _ = home.sh(&w, "ln -s /etc/hostname out; ln -s ../tmp/x up; ln -s loop loop; ln -s ping pong; ln -s pong ping; ln -s none dangling; mkdir dir; ln -s dir todir");
    for path in ["out", "up"] {
        refused(&file(&["write", &w, path, "--text", "x"]), 77, &[&format!("`{path}` is a link to `"), "hint:"]);
        refused(&file(&["replace", &w, path, "--old", "a", "--new", "b"]), 77, &[&format!("`{path}` is a link to `")]);
        refused(&file(&["read", &w, path]), 77, &[&format!("`{path}` is a link to `"), &format!("pyro workspace exec {w} -- cat {path}")]);
        refused(&file(&["search", &w, "x", "--path", path]), 77, &[&format!("`{path}` is a link to `")]);
    }
    for path in ["loop", "ping"] {
        refused(&file(&["write", &w, path, "--text", "x"]), 68, &["too many levels of symbolic links", path]);
        refused(&file(&["read", &w, path]), 68, &["too many levels of symbolic links", path]);
        refused(&file(&["search", &w, "x", "--path", path]), 68, &["too many levels of symbolic links", path]);
    }
    refused(&file(&["read", &w, "dangling"]), 65, &["`dangling` is a link to `none`, which does not exist"]);
    refused(&file(&["search", &w, "x", "--path", "dangling"]), 65, &["`dangling` is a link to `none`, which does not exist"]);
    refused(&file(&["replace", &w, "dangling", "--old", "a", "--new", "b"]), 65, &["`dangling` is a link to `none`, which does not exist"]);
    refused(&file(&["write", &w, "todir", "--text", "x"]), 68, &["`dir`: it is a directory"]);
    refused(&file(&["read", &w, "todir"]), 64, &["`todir` is a directory", &format!("pyro workspace file list {w} todir")]);
    assert_eq!(home.sh(&w, "ls -A /tmp; find . -type l | wc -l; find . -type f"), "7");
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}

#[test]
fn fifos_sockets_and_devices_are_refused_by_name_and_nothing_waits_on_them() {
    let home = Home::new();
    let w = home.create(&[]);
    let file = |arguments: &[&str]| home.pyro(&[&["workspace", "file"], arguments].concat());
    let _ = home.sh(
        &w,
        "mkfifo pipe; mknod null c 1 3; ln -s pipe topipe; echo needle >text
         perl -MSocket -e 'socket(S, AF_UNIX, SOCK_STREAM, 0) and bind(S, pack_sockaddr_un(\"sock\")) or die $!'",
    );
    for (path, what) in
        [("pipe", "`pipe` is a FIFO"), ("null", "`null` is a device"), ("sock", "`sock` is a socket"), ("topipe", "is a FIFO")]
    {
        refused(&file(&["read", &w, path]), 64, &[what, "not a regular file"]);
        refused(&file(&["write", &w, path, "--text", "x"]), 64, &[what, "not a regular file"]);
        refused(&file(&["replace", &w, path, "--old", "a", "--new", "b"]), 64, &[what, "not a regular file"]);
    }
    refused(&file(&["search", &w, "needle", "--path", "pipe"]), 64, &["`pipe`", "not a regular file"]);
    let found = file(&["search", &w, "needle", "--json"]).ok().json();
    assert_eq!(found["matches"].as_array().map(Vec::len), Some(1), "{found}");
    let patch = "--- a/pipe\n+++ b/pipe\n@@ -1 +1 @@\n-a\n+b\n";
    refused(&home.pyro(&["workspace", "patch", "apply", &w, "--patch", patch]), 64, &["`pipe` is a FIFO"]);
    let source = home.path().join("source");
    fs::create_dir(&source).expect("writable");
    fs::write(source.join("pipe"), "a file\n").expect("writable");
    fs::write(source.join("other"), "a file\n").expect("writable");
    let source = source.to_string_lossy().into_owned();
    refused(&home.pyro(&["workspace", "sync", "push", &w, &source]), 64, &["`pipe` is a FIFO"]);
    let exported = home.path().join("exported").to_string_lossy().into_owned();
    let export = home.pyro(&["workspace", "export", &w, "pipe", "--output", &exported]);
    assert!((64..=79).contains(&export.code) && export.stderr.contains("pipe"), "{}", export.stderr);
    assert_eq!(
        home.sh(&w, "for name in pipe null sock; do stat -c %F $name; done; ls other 2>/dev/null; echo none"),
        "fifo\ncharacter special file\nsocket\nnone"
    );
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}

#[test]
fn a_search_sees_lines_as_they_are_shown_whatever_ends_them() {
    let home = Home::new();
    let seed = home.path().join("seed");
    fs::create_dir(&seed).expect("writable");
    fs::write(seed.join("win.txt"), "one needle\r\ntwo\r\n").expect("writable");
    fs::write(seed.join("unix.txt"), "one needle\ntwo\n").expect("writable");
    let w = home.create(&["--seed-path", &seed.to_string_lossy()]);
    for (pattern, expected) in [("needle$", 2), ("^two$", 2), (r"needle\b", 2), (r"\r", 0), ("needle.", 0)] {
        let found = home.pyro(&["workspace", "file", "search", &w, pattern, "--json"]).ok().json();
        assert_eq!(found["matches"].as_array().map(Vec::len), Some(expected), "{pattern}: {found}");
    }
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}
