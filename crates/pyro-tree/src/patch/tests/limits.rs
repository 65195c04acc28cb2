//! Hostile patches end in an error, soon and without taking much memory. Bounds are counted, not timed: a test that hangs is killed.

use std::io::Write as _;

use super::*;

#[test]
fn a_thousand_files_and_no_more() {
    let many = |count: usize| -> String {
        (0..count).map(|n| format!("--- a/d/{n}\n+++ b/d/{n}\n@@ -1,2 +1,2 @@\n-x\n+y\n {}\n", "z".repeat(4000))).collect()
    };
    let content = format!("x\n{}\n", "z".repeat(4000));
    let files: Vec<(String, &str)> = (0..1000).map(|n| (format!("d/{n}"), content.as_str())).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), *text)).collect();
    let patch = many(1000);
    assert!(patch.len() > 4_000_000);
    let applied = parse(patch.as_bytes()).and_then(|patch| patch.apply(&state(&files))).unwrap();
    assert_eq!(applied.edits.len(), 1000);
    assert_eq!(parse(many(1001)[..].as_bytes()).map_err(|error| error.kind()), Err(pyro_proto::error::ErrorKind::LimitExceeded));
}

/// A text of 30 MiB, the largest that is changed at all. Its lines are long so that a test without optimizations is done soon.
fn large() -> String {
    format!("{}\n", "l".repeat(1023)).repeat(30 << 10)
}

#[test]
fn a_large_file_is_not_changed_a_thousand_times() {
    let content = large();
    let line = content.lines().next().unwrap();
    let once = format!("--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n-{line}\n+{line}\n {line}\n");
    let states = state(&[("f", &content)]);
    let stacked = parse(once.repeat(1000).as_bytes()).unwrap();
    assert_eq!(stacked.apply(&states), Err(PatchError::TooMuchWork));
    assert!(parse(once.repeat(10).as_bytes()).unwrap().apply(&states).is_ok());
    let small = format!("{line}\n{line}\n");
    assert!(stacked.apply(&state(&[("f", &small)])).is_ok());
}

#[test]
fn hunks_without_their_places_are_not_searched_for_without_end() {
    let hunks = "@@ @@\n-b\n+c\n".repeat(200_000);
    let patch = parse(format!("--- a/f\n+++ b/f\n{hunks}").as_bytes()).unwrap();
    assert_eq!(patch.apply(&state(&[("f", &large())])), Err(PatchError::TooMuchSearch));
}

#[test]
fn names_of_countless_directories_are_refused() {
    let deep = "a/".repeat(2000) + "f";
    let patch: String = (0..400).map(|n| format!("--- a/{n}/{deep}\n+++ b/{n}/{deep}\n@@ -1 +1 @@\n-x\n+y\n")).collect();
    assert_eq!(parse(patch.as_bytes()), Err(PatchError::NamesTooDeep));
    let long = format!("diff --git {}\n", "a ".repeat(2 << 20));
    assert!(parse(&long.as_bytes()[..PATCH_MAX_BYTES]).is_err());
}

#[test]
fn binary_parts_unfold_to_what_is_allowed() {
    let (size, mut packed) = (60 << 20, Vec::new());
    let mut encoder = flate2::write::ZlibEncoder::new(&mut packed, flate2::Compression::best());
    encoder.write_all(&vec![0; size]).unwrap();
    encoder.finish().unwrap();
    let part = |size: usize, packed: &[u8]| format!("literal {size}\n{}\n", base85(packed));
    let empty = part(0, b"x\x9c\x03\x00\x00\x00\x00\x01");
    let file = |n: usize| {
        format!("diff --git a/{n} b/{n}\nnew file mode 100644\nindex 0000000..1234567\nGIT binary patch\n{}{empty}", part(size, &packed))
    };
    let patch: String = (0..4).map(file).collect();
    assert!(patch.len() < 1 << 20);
    assert_eq!(parse(patch.as_bytes()), Err(PatchError::BinaryTooLarge));
    assert!(parse(file(0).as_bytes()).unwrap().apply(&state(&[])).is_ok());
}

/// Writes bytes as Git does.
fn base85(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 85] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";
    let line = |bytes: &[u8]| {
        let length = u8::try_from(bytes.len()).unwrap();
        let mut line = char::from(if length <= 26 { b'A' + length - 1 } else { b'a' + length - 27 }).to_string();
        for group in bytes.chunks(4) {
            let mut value = group.iter().chain(&[0; 4]).take(4).fold(0_u32, |value, byte| value << 8 | u32::from(*byte));
            let mut digits = [0; 5];
            for digit in digits.iter_mut().rev() {
                *digit = LETTERS[(value % 85) as usize];
                value /= 85;
            }
            line.push_str(std::str::from_utf8(&digits).unwrap());
        }
        line + "\n"
    };
    bytes.chunks(52).map(line).collect()
}
