//! ClientHellos by hand, so that tests can write what no library would.

pub(crate) const ENCRYPTED_HELLO: u16 = 0xfe0d;

fn vector(width: usize, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    [&length[8 - width..], content].concat()
}

pub(crate) fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [kind.to_be_bytes().as_slice(), &vector(2, body)].concat()
}

/// A hello for a name, split over records of this length.
pub(crate) fn hello(name: Option<&str>, more_extensions: &[u8], record_bytes: usize) -> Vec<u8> {
    let name = name.map(|name| extension(0, &vector(2, &[&[0], vector(2, name.as_bytes()).as_slice()].concat())));
    let extensions = [&extension(43, &[2, 3, 4])[..], &name.unwrap_or_default(), more_extensions].concat();
    let body = [&[3, 3][..], &[7; 32], &vector(1, &[9; 32]), &vector(2, &[0x13, 0x01]), &vector(1, &[0]), &vector(2, &extensions)].concat();
    let message = [&[1], vector(3, &body).as_slice()].concat();
    message.chunks(record_bytes).flat_map(|part| [&[22, 3, 1], vector(2, part).as_slice()].concat()).collect()
}
