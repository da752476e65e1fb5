//! Every bound of the formats, in one place, each with its reason.

/// Bytes of an app, environment, layer, role or host name: one DNS label, so names fit everywhere hosts do.
pub const NAME_BYTES_MAX: usize = 63;
/// Bytes of a version: with a suffix it still fits a file name of 255 bytes.
pub const VERSION_BYTES_MAX: usize = 128;
/// Bytes of one path component: the limit of every Linux file system.
pub const COMPONENT_BYTES_MAX: usize = 255;
/// Bytes of a whole path: Linux's PATH_MAX.
pub const PATH_BYTES_MAX: usize = 4096;
/// Components of a path: deeper trees cannot be removed with a bounded stack (nix#3541).
pub const DEPTH_MAX: usize = 128;
/// Bytes of a symbolic link's target: PATH_MAX less the terminating NUL.
pub const LINK_BYTES_MAX: usize = 4095;
/// Entries of one layer's tree: fifteen times the largest `node_modules` measured.
pub const LAYER_ENTRIES_MAX: usize = 1_000_000;
/// Bytes of one file: what the kernel and JSON's exact integers both hold.
pub const FILE_BYTES_MAX: u64 = (1 << 53) - 1;
/// Bytes of an artifact's canonical JSON.
pub const ARTIFACT_BYTES_MAX: usize = 1 << 20;
/// Layers of one artifact.
pub const LAYERS_MAX: usize = 256;
/// Uncompressed bytes of one pack frame: the unit of streaming, parallel decoding and memory.
pub const FRAME_RAW_BYTES_MAX: usize = 4 << 20;
/// Compressed bytes of one pack frame: what zstd cannot shrink becomes longer by a 256th (`ZSTD_compressBound`) and
/// its checksum.
pub const FRAME_STORED_BYTES_MAX: usize = FRAME_RAW_BYTES_MAX + FRAME_RAW_BYTES_MAX / 256 + 1024;
/// Uncompressed bytes gathered into one frame from small files. Measured for a `node_modules` of 698 MB at
/// level 3: 256 KiB give 128.8 MB, 1 MiB 118.5, 2 MiB 112.2, 4 MiB 106.7; one stream, with what is
/// there twice, 111.2. Two frames for each core, and what is decoded of them, must fit a host's memory.
pub const FRAME_RAW_BYTES_TARGET: usize = 2 << 20;
/// Compressed bytes at which a pack is closed.
pub const PACK_BYTES_TARGET: u64 = 32 << 20;
/// Compressed bytes of a pack's directory: a million objects fit.
pub const PACK_DIRECTORY_BYTES_MAX: u64 = 64 << 20;
/// zstd window a frame may ask for, as a power of two (8 MiB).
pub const WINDOW_LOG_MAX: u32 = 23;
/// Objects of one pack: bounds what reading a directory costs in memory; fuller packs are closed early.
pub const PACK_OBJECTS_MAX: usize = 262_144;
/// Uncompressed bytes of a pack's directory or a locator: [`PACK_OBJECTS_MAX`] lines of JSON.
pub const PACK_DIRECTORY_RAW_BYTES_MAX: usize = 32 << 20;
/// Uncompressed bytes of a locator: a million pairs of integers, and a frame for each at worst.
pub const LOCATOR_RAW_BYTES_MAX: usize = 64 << 20;
/// Uncompressed bytes of one tree: a million entries of 268 bytes.
pub const TREE_BYTES_MAX: usize = 256 << 20;
/// How much larger than its stored form a tree, locator or directory may claim to be: real ones reach 30.
pub const INFLATION_MAX: usize = 256;
/// Bytes of a ref or of `landfall-store.json`.
pub const RECORD_BYTES_MAX: u64 = 64 << 10;
/// Packs a locator may name beside those that its bytes fill: bounds the requests of a cold fetch.
pub const LOCATOR_SPARE_PACKS_MAX: usize = 8;
/// Sum of `.idx` bytes that a push loads to find what the store has; beyond it only the app's own
/// versions are compared.
pub const INDEX_BYTES_MAX: u64 = 32 << 20;
/// Bytes of a store key: what S3 allows.
pub const KEY_BYTES_MAX: usize = 1024;
/// Files from which on a tree is stored in segments: a smaller one is not worth another round trip.
pub const SEGMENTED_FILES_MIN: u64 = 1_024;
/// Ranges in which the segments of one tree are read: as many as of one pack.
pub const TREE_RANGES_MAX: usize = 8;
/// Uncompressed bytes of a list of segments: a million entries, cut every 65, at 19 bytes each.
pub const SEGMENT_LIST_RAW_BYTES_MAX: usize = 512 << 10;
/// Bytes of a delta's group with what it is compressed against: both are in memory where it is made and
/// where it is applied. Measured: with twice as much, a real upgrade of 93 MB is 3 % larger, not smaller.
pub const DELTA_GROUP_BYTES_MAX: u64 = 64 << 20;
/// Groups of one delta: 64 GiB of large contents.
pub const DELTA_GROUPS_MAX: u64 = 4096;
/// Bytes of a delta: all its groups, and what came. A hint may say anything.
pub const DELTA_BYTES_MAX: u64 = DELTA_GROUPS_MAX * DELTA_GROUP_BYTES_MAX + 2 * TREE_BYTES_MAX as u64;
/// Bytes of an artifact's hints: every layer of the largest artifact with one base, or fewer with more.
pub const HINTS_BYTES_MAX: u64 = 64 << 10;
/// Bases that hints hold for one tree.
pub const HINTS_BASES_MAX: usize = 8;
/// Objects that one run of the collection condemns; the next run condemns the rest.
pub const TOMBSTONE_KEYS_MAX: usize = 250_000;
/// Compressed bytes of a tombstone.
pub const TOMBSTONE_BYTES_MAX: u64 = 32 << 20;
/// Uncompressed bytes of a tombstone: [`TOMBSTONE_KEYS_MAX`] keys of the longest kind, a delta's.
pub const TOMBSTONE_RAW_BYTES_MAX: usize = 64 << 20;
