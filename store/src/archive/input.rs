//! The bytes of an archive: decompressed, counted and bounded.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

use super::names::ImportError;

/// What an archive may come to. Checked while it is read, before anything is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the uncompressed tar.
    pub bytes: u64,
    /// Uncompressed bytes for each compressed one, once there are more than 64 MiB.
    pub ratio: u64,
    /// Members, landfall's own and extended headers included.
    pub members: u64,
    /// Bytes of all names together, with the directories that they imply.
    pub name_bytes: u64,
}

impl Default for Limits {
    /// Room for anything real: 64 GiB, 200 to 1, a million members.
    fn default() -> Self {
        Self { bytes: 64 << 30, ratio: 200, members: 1_000_000, name_bytes: 128 << 20 }
    }
}

/// Below this no ratio is asked for: a small tar of nearly empty files compresses absurdly well.
const RATIO_FREE_BYTES: u64 = 64 << 20;
/// The window a zstd stream may ask for, as a power of two: 32 MiB, what every level up to 20 uses.
const ZSTD_WINDOW_LOG_MAX: u32 = 25;

/// The tar inside an archive.
pub(super) struct Input<'a> {
    stream: Box<dyn Read + 'a>,
    taken: Rc<Cell<u64>>,
    given: u64,
    limits: Limits,
}

struct Counted<R> {
    inner: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count.set(self.count.get() + count as u64);
        Ok(count)
    }
}

impl<'a> Input<'a> {
    /// Finds the compression by the first bytes.
    pub fn new(reader: impl Read + 'a, limits: Limits) -> io::Result<Self> {
        let taken = Rc::new(Cell::new(0));
        let mut raw = BufReader::with_capacity(128 << 10, Counted { inner: reader, count: taken.clone() });
        // A short first read would hide the magic; both have at most four bytes.
        let mut head = Vec::new();
        raw.by_ref().take(4).read_to_end(&mut head)?;
        let raw = io::Cursor::new(head.clone()).chain(raw);
        let stream: Box<dyn Read + 'a> = match head.as_slice() {
            [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(raw)),
            [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd_stream(raw)?),
            _ => Box::new(raw),
        };
        Ok(Self { stream, taken, given: 0, limits })
    }

    /// Uncompressed bytes read so far.
    pub fn offset(&self) -> u64 {
        self.given
    }

    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Fills the buffer; `false` if the archive ends exactly before it.
    pub fn fill(&mut self, buffer: &mut [u8]) -> Result<bool, ImportError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read_some(&mut buffer[filled..])? {
                0 if filled == 0 => return Ok(false),
                0 => return Err(ImportError::Truncated { offset: self.given }),
                count => filled += count,
            }
        }
        Ok(true)
    }

    /// Some bytes; 0 only at the true end, where the compressor's checksum has been compared.
    pub fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, ImportError> {
        loop {
            match self.stream.read(buffer) {
                Ok(count) => {
                    self.given += count as u64;
                    self.check()?;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(ImportError::Truncated { offset: self.given });
                }
                Err(source) => return Err(ImportError::Read { offset: self.given, source }),
            }
        }
    }

    fn check(&self) -> Result<(), ImportError> {
        if self.given > self.limits.bytes {
            return Err(ImportError::TooLarge {
                what: "unpacks to too many bytes",
                limit: self.limits.bytes,
            });
        }
        let most = RATIO_FREE_BYTES.max(self.taken.get().saturating_mul(self.limits.ratio));
        if self.given > most {
            return Err(ImportError::TooLarge {
                what: "unpacks to too many bytes for each compressed one",
                limit: self.limits.ratio,
            });
        }
        Ok(())
    }
}

fn zstd_stream<'a>(raw: impl BufRead + 'a) -> io::Result<zstd::Decoder<'a, impl BufRead + 'a>> {
    let mut decoder = zstd::Decoder::with_buffer(raw)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    Ok(decoder)
}
