//! Lists, reads, changes and freezes a tree in a temporary folder through the agent's service.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use pyro_proto::v1::{
    ChangeCommit, ChangeInput, ChangeItem, ChangeKind, ChangeStart, FileKind, FileRange, FileStatus, FreezeRequest, ListFilesRequest,
    ReadFilesAnswer, ReadFilesRequest, change_input, read_files_answer,
};

use super::*;

/// A disk's root, whose `tree` is what is seen, and a client of its agent.
async fn disk() -> (tempfile::TempDir, Client) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(folder.path().join("tree")).expect("it is made");
    let client = client_of(folder.path()).await;
    (folder, client)
}

async fn client_of(disk: &Path) -> Client {
    let mut stream = agent_made(|agent| agent.with_disk(disk).expect("it is set up"));
    call(&mut stream, [1; 16]).await;
    start(stream, [1; 16]).await
}

fn kind_of(status: &tonic::Status) -> ErrorKind {
    Failure::from_status(status, ErrorKind::Internal).kind()
}

/// Lists; returns the entries, how many pages they came in, and whether there was more.
async fn list(client: &mut Client, request: ListFilesRequest) -> Result<(Vec<FileStatus>, usize, bool), tonic::Status> {
    let mut pages = client.list_files(request).await?.into_inner();
    let (mut files, mut count, mut truncated) = (Vec::new(), 0, false);
    while let Some(page) = pages.message().await? {
        assert!(page.files.len() <= limits::LIST_PAGE_ENTRIES && !truncated);
        count += 1;
        truncated = page.truncated;
        files.extend(page.files);
    }
    Ok((files, count, truncated))
}

fn all() -> ListFilesRequest {
    ListFilesRequest { recursive: true, ..ListFilesRequest::default() }
}

async fn read(client: &mut Client, ranges: &[(&[u8], u64, u64)]) -> Vec<read_files_answer::Answer> {
    let range = |&(path, offset, max_bytes): &(&[u8], u64, u64)| FileRange { path: path.to_vec().into(), offset, max_bytes, follow: false };
    read_ranges(client, ranges.iter().map(range).collect()).await
}

async fn read_ranges(client: &mut Client, ranges: Vec<FileRange>) -> Vec<read_files_answer::Answer> {
    let mut answers = client.read_files(ReadFilesRequest { ranges }).await.expect("it is accepted").into_inner();
    let mut all = Vec::new();
    while let Some(ReadFilesAnswer { answer }) = answers.message().await.expect("the call lives") {
        all.push(answer.expect("an answer"));
    }
    all
}

fn content(answers: &[read_files_answer::Answer]) -> Vec<u8> {
    let mut content = Vec::new();
    for answer in answers {
        if let read_files_answer::Answer::Content(piece) = answer {
            assert!(piece.len() <= limits::OUTPUT_CHUNK_BYTES);
            content.extend_from_slice(piece);
        }
    }
    content
}

async fn write(client: &mut Client, path: &str, content: &[u8], expected_version: &[u8]) -> Result<(), tonic::Status> {
    let item = ChangeItem {
        path: path.to_owned().into(),
        kind: ChangeKind::File.into(),
        mode: 0o644,
        size_bytes: content.len() as u64,
        expected_version: expected_version.to_vec().into(),
        ..ChangeItem::default()
    };
    let inputs = [
        change_input::Input::Start(ChangeStart::default()),
        change_input::Input::Item(item),
        change_input::Input::Content(content.to_vec().into()),
        change_input::Input::Commit(ChangeCommit {}),
    ];
    let inputs = inputs.map(|input| ChangeInput { input: Some(input) });
    client.change(tokio_stream::iter(inputs)).await.map(drop)
}

#[tokio::test]
async fn tree_is_listed_in_order_with_what_each_entry_is() {
    let (folder, mut client) = disk().await;
    let tree = folder.path().join("tree");
    std::fs::create_dir_all(tree.join("b/inner")).expect("it is made");
    std::fs::write(tree.join("b/inner/file"), "12345").expect("it is written");
    std::fs::write(tree.join("b.txt"), "").expect("it is written");
    std::os::unix::fs::symlink("/etc", tree.join("link")).expect("it is made");
    let strange = std::ffi::OsStr::from_bytes(b"\xff\xfe\n");
    std::fs::write(tree.join(strange), "x").expect("it is written");
    rustix::fs::mknodat(rustix::fs::CWD, tree.join("fifo"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).expect("it is made");
    let (files, pages, truncated) = list(&mut client, all()).await.expect("it is listed");
    let shown: Vec<_> = files.iter().map(|file| (&file.path[..], file.kind(), file.size_bytes)).collect();
    let folder_size = |path: &str| std::fs::metadata(tree.join(path)).expect("it is there").len();
    let expected: [(&[u8], _, _); 7] = [
        (b"b", FileKind::Directory, folder_size("b")),
        (b"b/inner", FileKind::Directory, folder_size("b")),
        (b"b/inner/file", FileKind::File, 5),
        (b"b.txt", FileKind::File, 0),
        (b"fifo", FileKind::Fifo, 0),
        (b"link", FileKind::Link, 4),
        (b"\xff\xfe\n", FileKind::File, 1),
    ];
    assert_eq!((shown.as_slice(), pages, truncated), (expected.as_slice(), 1, false));
    assert_eq!(&files[5].link_target[..], b"/etc");
    let (files, ..) = list(&mut client, ListFilesRequest { path: "b".into(), ..ListFilesRequest::default() }).await.expect("it is listed");
    assert_eq!(files.iter().map(|file| &file.path[..]).collect::<Vec<_>>(), [b"b/inner".as_slice()]);
    for own in ["b/inner/file", "link", "fifo"] {
        let (files, ..) = list(&mut client, ListFilesRequest { path: own.into(), ..all() }).await.expect("it lists itself");
        assert_eq!(files.iter().map(|file| &file.path[..]).collect::<Vec<_>>(), [own.as_bytes()]);
    }
}

#[tokio::test]
async fn long_listing_comes_in_pages_and_stops_at_its_limit() {
    let (folder, mut client) = disk().await;
    for number in 0..1500 {
        std::fs::write(folder.path().join("tree").join(format!("{number:04}")), "").expect("it is written");
    }
    let (files, pages, truncated) = list(&mut client, all()).await.expect("it is listed");
    assert_eq!((files.len(), pages, truncated), (1500, 3, false));
    assert!(files.is_sorted_by(|left, right| left.path < right.path));
    for (limit, cut) in [(1, true), (1499, true), (1500, false), (2000, false)] {
        let (files, _, truncated) = list(&mut client, ListFilesRequest { limit, ..all() }).await.expect("it is listed");
        assert_eq!((files.len() as u64, truncated), (limit.min(1500), cut));
    }
}

#[tokio::test]
async fn tree_deeper_than_any_path_is_listed_as_far_as_paths_go() {
    let (folder, mut client) = disk().await;
    let mut place = rustix::fs::open(folder.path().join("tree"), rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).expect("it opens");
    for _ in 0..10_000 {
        rustix::fs::mkdirat(&place, "d", rustix::fs::Mode::RWXU).expect("it is made");
        place = rustix::fs::openat(&place, "d", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).expect("it opens");
    }
    std::fs::write(folder.path().join("tree/e"), "").expect("it is written");
    let (files, ..) = list(&mut client, all()).await.expect("it is listed");
    assert_eq!(files.len(), 2049);
    assert_eq!(files.iter().map(|file| file.path.len()).max(), Some(4095));
    // `tempfile` would go down by recursion.
    assert!(std::process::Command::new("rm").arg("-rf").arg(folder.path().join("tree")).status().expect("rm runs").success());
}

#[tokio::test]
async fn ranges_are_read_and_nothing_but_files_is_opened() {
    let (folder, mut client) = disk().await;
    let tree = folder.path().join("tree");
    let large: Vec<u8> = (0..1_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    std::fs::write(tree.join("large"), &large).expect("it is written");
    std::fs::File::create(tree.join("sparse")).and_then(|file| file.set_len(1 << 40)).expect("it is made");
    std::os::unix::fs::symlink("large", tree.join("link")).expect("it is made");
    rustix::fs::mknodat(rustix::fs::CWD, tree.join("fifo"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).expect("it is made");
    assert_eq!(content(&read(&mut client, &[(b"large", 0, u64::MAX)]).await), large);
    assert_eq!(content(&read(&mut client, &[(b"large", 999_990, 100)]).await), large[999_990..]);
    assert_eq!(content(&read(&mut client, &[(b"sparse", (1 << 40) - 3, 100)]).await), [0, 0, 0]);
    for offset in [1_000_000, 1 << 62, u64::MAX] {
        assert_eq!(read(&mut client, &[(b"large", offset, u64::MAX)]).await.len(), 1);
    }
    let answers =
        read(&mut client, &[(b"link", 0, 9), (b"fifo", 0, 9), (b"", 0, 9), (b"gone", 0, 9), (b"../x", 0, 9), (b"large", 1, 2)]).await;
    let shown: Vec<_> = answers
        .iter()
        .map(|answer| match answer {
            read_files_answer::Answer::Status(status) => format!("{:?}", status.kind()),
            read_files_answer::Answer::Content(content) => format!("{content:?}"),
            read_files_answer::Answer::Failure(failure) => failure.message.clone(),
        })
        .collect();
    let expected = [
        "Link",
        "Fifo",
        "Directory",
        "the workspace has no `gone`",
        "`../x` is no path in the workspace: it has a component `.` or `..`",
        "File",
        "b\"\\x01\\x02\"",
    ];
    assert_eq!(shown, expected);
    let many = ReadFilesRequest { ranges: vec![FileRange::default(); limits::READ_FILES_MAX + 1] };
    assert_eq!(kind_of(&client.read_files(many).await.expect_err("too many")), ErrorKind::LimitExceeded);
}

#[tokio::test]
async fn file_is_read_where_its_link_leads() {
    let (folder, mut client) = disk().await;
    let tree = folder.path().join("tree");
    std::fs::create_dir(tree.join("d")).expect("it is made");
    std::fs::write(tree.join("d/file"), "content").expect("it is written");
    for (name, target) in [
        ("chain", "link"),
        ("link", "/workspace/d/file"),
        ("dir", "/workspace/d"),
        ("none", "d/none"),
        ("out", "/etc/passwd"),
        ("loop", "loop"),
    ] {
        std::os::unix::fs::symlink(target, tree.join(name)).expect("it is made");
    }
    let mut follow = async |path: &str, follow| {
        let ranges = vec![FileRange { path: path.to_owned().into(), offset: 0, max_bytes: 9, follow }];
        match read_ranges(&mut client, ranges).await.as_slice() {
            [read_files_answer::Answer::Status(status)] => format!("{:?} {}", status.kind(), String::from_utf8_lossy(&status.path)),
            [read_files_answer::Answer::Status(status), read_files_answer::Answer::Content(content)] => {
                format!("{} {}", String::from_utf8_lossy(&status.path), String::from_utf8_lossy(content))
            }
            [read_files_answer::Answer::Failure(failure)] => failure.message.clone(),
            other => panic!("one answer awaited, not {other:?}"),
        }
    };
    assert_eq!(follow("chain", true).await, "d/file content");
    assert_eq!(follow("chain", false).await, "Link chain");
    assert_eq!(follow("dir/file", false).await, "dir/file content");
    assert_eq!(follow("dir", true).await, "Directory d");
    assert_eq!(follow("none", true).await, "`none` is a link to `d/none`, which does not exist");
    assert_eq!(follow("out", true).await, "`out` leads out of the workspace: `out` is a link to `/etc/passwd`");
    assert_eq!(follow("loop", true).await, "`loop` cannot be followed: too many levels of symbolic links");
    assert_eq!(follow("gone", true).await, "the workspace has no `gone`");
}

#[tokio::test]
async fn links_that_lead_out_are_not_followed() {
    let (folder, mut client) = disk().await;
    let tree = folder.path().join("tree");
    std::fs::write(folder.path().join("pyro/secret"), "x").expect("it is written");
    for (name, target) in [("etc", "/etc"), ("up", ".."), ("staging", "../pyro"), ("self", "/proc/self/cwd")] {
        std::os::unix::fs::symlink(target, tree.join(name)).expect("it is made");
        let path = format!("{name}/secret");
        let answers = read(&mut client, &[(path.as_bytes(), 0, 9)]).await;
        let [read_files_answer::Answer::Failure(failure)] = answers.as_slice() else { panic!("it must fail, not {answers:?}") };
        assert_eq!(failure.kind(), ErrorKind::PermissionDenied);
        let status = list(&mut client, ListFilesRequest { path: path.into(), ..all() }).await.expect_err("it leads out");
        assert_eq!(kind_of(&status), ErrorKind::PermissionDenied);
    }
}

#[tokio::test]
async fn file_is_written_when_it_is_as_it_was_read() {
    let (folder, mut client) = disk().await;
    write(&mut client, "a/b/c", b"one", b"").await.expect("it is made");
    let version = async |client: &mut Client| match read(client, &[(b"a/b/c", 0, 0)]).await.as_slice() {
        [read_files_answer::Answer::Status(status)] => status.version.to_vec(),
        other => panic!("a status awaited, not {other:?}"),
    };
    let first = version(&mut client).await;
    assert!(first.len() <= limits::VERSION_MAX_BYTES);
    write(&mut client, "a/b/c", b"two", &first).await.expect("it is as it was read");
    assert_ne!(version(&mut client).await, first);
    let status = write(&mut client, "a/b/c", b"three", &first).await.expect_err("it was changed");
    assert_eq!(kind_of(&status), ErrorKind::Conflict);
    assert_eq!(std::fs::read(folder.path().join("tree/a/b/c")).expect("a file"), b"two");
    wait_until(|| std::fs::read_dir(folder.path().join("pyro")).expect("a folder").next().is_none()).await;
}

#[tokio::test]
async fn dropped_change_leaves_nothing() {
    let (folder, mut client) = disk().await;
    let (inputs, receiver) = mpsc::channel(4);
    let item = ChangeItem { path: "a".into(), kind: ChangeKind::File.into(), size_bytes: 1 << 40, ..ChangeItem::default() };
    for input in [change_input::Input::Start(ChangeStart::default()), change_input::Input::Item(item)] {
        inputs.send(ChangeInput { input: Some(input) }).await.expect("the receiver is here");
    }
    let call = tokio::spawn(async move { client.change(ReceiverStream::new(receiver)).await.map(drop) });
    let staging = folder.path().join("pyro");
    let entries = || std::fs::read_dir(&staging).expect("a folder").count();
    wait_until(|| entries() > 0).await;
    call.abort();
    wait_until(|| entries() == 0).await;
    assert_eq!(std::fs::read_dir(folder.path().join("tree")).expect("a folder").count(), 0);
    drop(inputs);
}

#[tokio::test]
async fn change_waits_for_a_freeze_that_ends_with_its_call_or_its_time() {
    let (_folder, mut client) = disk().await;
    let request = FreezeRequest { root: true, workspace: true, max_ms: 60_000 };
    let mut first = client.freeze(request).await.expect("it is accepted").into_inner();
    assert!(first.message().await.expect("the call lives").is_some());
    let mut second = client.freeze(FreezeRequest { max_ms: 1, ..request }).await.expect("it is accepted").into_inner();
    assert!(second.message().await.expect("the call lives").is_some());
    assert!(second.message().await.expect("the call lives").is_none(), "its time is over");
    let mut other = client.clone();
    let mut writing = tokio::spawn(async move { write(&mut other, "a", b"x", b"").await });
    // Not in time, but in order: a listing made meanwhile does not see it.
    assert!(list(&mut client, all()).await.expect("it is listed").0.is_empty());
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut writing).await.is_err(), "one freeze is left");
    drop(first);
    tokio::time::timeout(DEADLINE, writing).await.expect("it goes on").expect("no panic").expect("it is written");
}

#[tokio::test]
async fn shutdown_ends_changes_and_freezes() {
    let (_folder, mut client) = disk().await;
    let mut frozen = client.freeze(FreezeRequest { root: false, workspace: true, max_ms: 0 }).await.expect("it is accepted").into_inner();
    assert!(frozen.message().await.expect("the call lives").is_some());
    let (inputs, receiver) = mpsc::channel(4);
    inputs.send(ChangeInput { input: Some(change_input::Input::Start(ChangeStart::default())) }).await.expect("the receiver is here");
    let mut other = client.clone();
    let staging = tokio::spawn(async move { other.change(ReceiverStream::new(receiver)).await.map(drop) });
    let mut other = client.clone();
    let waiting = tokio::spawn(async move { write(&mut other, "a", b"x", b"").await });
    // The agent has begun with both when it answers this.
    client.hello(HelloRequest { protocol: 1 }).await.expect("an answer");
    client.shutdown(ShutdownRequest { grace_ms: 0 }).await.expect("it ends");
    assert!(frozen.message().await.expect("the call lives").is_none());
    assert!(staging.await.expect("no panic").is_err());
    assert!(waiting.await.expect("no panic").is_err());
    let status = list(&mut client, all()).await.expect_err("the machine has ended");
    assert_eq!(kind_of(&status), ErrorKind::WrongState);
    drop(inputs);
}
