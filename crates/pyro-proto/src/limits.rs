//! Caps of the wire, checked before anything is allocated. Both ends share them.

/// Generation of the guest protocol this build speaks. The lower of both ends' numbers is used.
pub const PROTOCOL_GENERATION: u32 = 4;

/// Largest gRPC message either hop accepts. Output chunks stay far below; a request carries at most 1 MiB of arguments and
/// environment, so 4 MiB leaves room for framing and for later operations (a patch is at most 4 MiB and is streamed).
pub const MESSAGE_MAX_BYTES: usize = 4 << 20;

/// Most bytes of output one message carries. Larger chunks save a little per-message work but delay other streams on the one channel.
pub const OUTPUT_CHUNK_BYTES: usize = 128 << 10;

/// HTTP/2 window of one stream: with 2 ms of round trip the default 64 KiB would cap a stream near 32 MB/s.
pub const STREAM_WINDOW_BYTES: u32 = 4 << 20;

/// HTTP/2 window of the connection: far larger than a stream's, so that one unread stream does not stall the rest.
pub const CONNECTION_WINDOW_BYTES: u32 = 512 << 20;

/// Largest HTTP/2 frame: one frame per output chunk, with room for the message's framing.
pub const FRAME_MAX_BYTES: u32 = 256 << 10;

/// Most concurrent calls on one channel.
pub const CONCURRENT_CALLS_MAX: u32 = 512;

/// Most arguments of a command.
pub const ARGUMENTS_MAX: usize = 4096;

/// Most bytes of arguments and environment of a command together.
pub const ARGUMENTS_MAX_BYTES: usize = 1 << 20;

/// Most bytes of a path in `/workspace`; the kernel's own limit (`PATH_MAX`).
pub const PATH_MAX_BYTES: usize = 4096;

/// Most entries of one page of a listing.
pub const LIST_PAGE_ENTRIES: usize = 512;

/// Most files read by one call.
pub const READ_FILES_MAX: usize = 1024;

/// Most bytes of an entry's version.
pub const VERSION_MAX_BYTES: usize = 64;

/// Bytes of a forwarded connection that may wait for its slow end, in either direction. A window of the channel is far larger: with 256
/// slow clients it would make the host hold a gibibyte.
pub const PORT_CREDIT_BYTES: u64 = 256 << 10;

/// Most bytes of input one write to a shell carries.
pub const SHELL_INPUT_MAX_BYTES: usize = 1 << 20;

/// Accepted widths of a terminal, in columns.
pub const TERMINAL_COLUMNS: std::ops::RangeInclusive<u32> = 20..=500;

/// Accepted heights of a terminal, in rows.
pub const TERMINAL_ROWS: std::ops::RangeInclusive<u32> = 5..=200;
