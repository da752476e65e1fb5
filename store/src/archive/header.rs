//! Members of a tar, read strictly: one meaning or an error.
//!
//! Headers are taken apart by the tar crate's types, but sizes, names, order and end are judged here, because
//! every well-known hole in tar readers came from two readers that judged one of these differently.

use tar::Header;

use super::BLOCK_BYTES;
use super::input::Input;
use super::names::{ImportError, Refusal};
use super::pax::{self, Extended};
use crate::limits::PATH_BYTES_MAX;

/// Bytes of one extended header: attributes of other tools can be large, names cannot.
const EXTENDED_BYTES_MAX: u64 = 1 << 20;

/// Bytes read at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// A member; its content is read from [`Members::read`].
#[derive(Debug)]
pub(super) struct Member {
    /// The name, without a leading `./` and, for a directory, without the closing `/`. Empty: the top.
    pub name: Vec<u8>,
    pub offset: u64,
    pub size: u64,
    pub kind: MemberKind,
}

#[derive(Debug)]
pub(super) enum MemberKind {
    File {
        executable: bool,
    },
    Directory,
    Link(Vec<u8>),
    /// To the member with this name.
    HardLink(Vec<u8>),
}

impl Member {
    pub fn refuse(&self, refusal: impl Into<Refusal>) -> ImportError {
        ImportError::Member { name: self.name.clone(), offset: self.offset, refusal: refusal.into() }
    }
}

pub(super) struct Members<'a> {
    input: Input<'a>,
    /// Content of the current member that is not read yet, and the padding after it.
    left: u64,
    padding: usize,
    count: u64,
}

impl<'a> Members<'a> {
    pub fn new(input: Input<'a>) -> Self {
        Self { input, left: 0, padding: 0, count: 0 }
    }

    /// The next member; `None` after the end mark and the true end of the archive.
    pub fn next(&mut self) -> Result<Option<Member>, ImportError> {
        let mut said = Said::default();
        while let Some((header, offset)) = self.header()? {
            let refuse =
                |refusal| ImportError::Member { name: header.path_bytes().into_owned(), offset, refusal };
            check_format(&header).map_err(refuse)?;
            let size = size(&header).map_err(refuse)?;
            self.open(size)?;
            match header.as_old().linkflag[0] {
                kind @ (b'x' | b'g' | b'L' | b'K') => {
                    let body = self.short(size, &header, offset)?;
                    said.hear(kind, body).map_err(refuse)?;
                }
                _ => return member(&header, offset, size, said).map(Some).map_err(refuse),
            }
        }
        match said.is_silent() {
            true => Ok(None),
            false => Err(ImportError::Truncated { offset: self.input.offset() }),
        }
    }

    /// Some bytes of the current member's content; 0 at its end.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ImportError> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        match self.input.read_some(&mut buffer[..most])? {
            0 => Err(ImportError::Truncated { offset: self.input.offset() }),
            count => {
                self.left -= count as u64;
                Ok(count)
            }
        }
    }

    /// The whole content of a member that must be small.
    pub fn whole(&mut self, member: &Member, limit: u64) -> Result<Vec<u8>, ImportError> {
        if member.size > limit {
            return Err(member.refuse(Refusal::TooLarge { size: member.size, limit }));
        }
        self.all()
    }

    pub fn limits(&self) -> super::Limits {
        self.input.limits()
    }

    fn short(&mut self, size: u64, header: &Header, offset: u64) -> Result<Vec<u8>, ImportError> {
        if size > EXTENDED_BYTES_MAX {
            let refusal = Refusal::TooLarge { size, limit: EXTENDED_BYTES_MAX };
            return Err(ImportError::Member { name: header.path_bytes().into_owned(), offset, refusal });
        }
        self.all()
    }

    /// Grows with what is really there, never with what is claimed.
    fn all(&mut self) -> Result<Vec<u8>, ImportError> {
        let (mut all, mut buffer) = (Vec::new(), vec![0; CHUNK_BYTES]);
        loop {
            match self.read(&mut buffer)? {
                0 => return Ok(all),
                count => all.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// Notes what follows a header, before anything of it is read or reserved.
    fn open(&mut self, size: u64) -> Result<(), ImportError> {
        let limits = self.input.limits();
        if size > limits.bytes.saturating_sub(self.input.offset()) {
            return Err(ImportError::TooLarge { what: "unpacks to too many bytes", limit: limits.bytes });
        }
        self.count += 1;
        if self.count > limits.members {
            return Err(ImportError::TooLarge { what: "has too many members", limit: limits.members });
        }
        self.left = size;
        self.padding = (BLOCK_BYTES - (size % BLOCK_BYTES as u64) as usize) % BLOCK_BYTES;
        Ok(())
    }

    fn header(&mut self) -> Result<Option<(Header, u64)>, ImportError> {
        self.finish_member()?;
        let offset = self.input.offset();
        let mut header = Header::new_old();
        if !self.input.fill(header.as_mut_bytes())? {
            return Err(ImportError::Truncated { offset });
        }
        if is_zero(header.as_bytes()) {
            self.end()?;
            return Ok(None);
        }
        if header.cksum().ok() != Some(checksum(header.as_bytes())) {
            let name = header.path_bytes().into_owned();
            return Err(ImportError::Member { name, offset, refusal: Refusal::Checksum });
        }
        Ok(Some((header, offset)))
    }

    fn finish_member(&mut self) -> Result<(), ImportError> {
        if self.left > 0 {
            let mut buffer = vec![0; CHUNK_BYTES];
            while self.read(&mut buffer)? > 0 {}
        }
        let padding = std::mem::take(&mut self.padding);
        let mut buffer = [0; BLOCK_BYTES];
        if padding > 0 && !self.input.fill(&mut buffer[..padding])? {
            return Err(ImportError::Truncated { offset: self.input.offset() });
        }
        Ok(())
    }

    /// A second block of zeros, then nothing but zeros (tar pads to its record size), then the true end.
    fn end(&mut self) -> Result<(), ImportError> {
        let mut buffer = vec![0; CHUNK_BYTES];
        let second = self.input.fill(&mut buffer[..BLOCK_BYTES])?;
        let offset = self.input.offset();
        if !second {
            return Err(ImportError::Truncated { offset });
        }
        let mut count = BLOCK_BYTES;
        while count > 0 {
            if !is_zero(&buffer[..count]) {
                return Err(ImportError::Trailing { offset });
            }
            count = self.input.read_some(&mut buffer)?;
        }
        Ok(())
    }
}

/// What extended headers said about the next member.
#[derive(Default)]
struct Said {
    pax: Option<Extended>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Said {
    fn hear(&mut self, kind: u8, body: Vec<u8>) -> Result<(), Refusal> {
        let twice = match kind {
            b'g' => return pax::check_global(&body),
            b'x' => self.pax.replace(pax::parse(&body)?).is_some(),
            b'L' => self.long_name.replace(gnu_name(body)?).is_some(),
            _ => self.long_link.replace(gnu_name(body)?).is_some(),
        };
        if twice || (self.pax.is_some() && (self.long_name.is_some() || self.long_link.is_some())) {
            return Err(Refusal::Extended("two of them speak about one member".to_owned()));
        }
        Ok(())
    }

    fn is_silent(&self) -> bool {
        self.pax.is_none() && self.long_name.is_none() && self.long_link.is_none()
    }
}

fn gnu_name(mut body: Vec<u8>) -> Result<Vec<u8>, Refusal> {
    if body.last() == Some(&0) {
        body.pop();
    }
    if body.is_empty() || body.contains(&0) || body.len() > PATH_BYTES_MAX {
        return Err(Refusal::Field("long name"));
    }
    Ok(body)
}

fn member(header: &Header, offset: u64, size: u64, said: Said) -> Result<Member, Refusal> {
    let pax = said.pax.unwrap_or_default();
    if pax.size.is_some_and(|said| said != size) {
        return Err(Refusal::Extended("its size is another than the header's".to_owned()));
    }
    let name = match pax.path.or(said.long_name) {
        Some(name) => name,
        None => short_name(header)?,
    };
    let target = || match pax.link.clone().or_else(|| said.long_link.clone()) {
        Some(target) => Ok(target),
        None => field(&header.as_old().linkname, "link target"),
    };
    let kind = match header.as_old().linkflag[0] {
        b'0' | 0 => MemberKind::File { executable: mode(header)? & 0o100 != 0 },
        b'1' => MemberKind::HardLink(plain(target()?, false)),
        b'2' => MemberKind::Link(target()?),
        b'5' => MemberKind::Directory,
        other => return Err(Refusal::Kind(other)),
    };
    if size > 0 && !matches!(kind, MemberKind::File { .. }) {
        return Err(Refusal::Size(size));
    }
    Ok(Member { name: plain(name, matches!(kind, MemberKind::Directory)), offset, size, kind })
}

/// Strips what tools put around a name: leading `./`, and a directory's closing `/`.
fn plain(mut name: Vec<u8>, directory: bool) -> Vec<u8> {
    let lead = name.chunks(2).take_while(|pair| pair == b"./").count() * 2;
    name.drain(..lead);
    if directory {
        if name.last() == Some(&b'/') && name.len() > 1 {
            name.pop();
        }
        if name == b"." {
            name.clear();
        }
    }
    name
}

/// One of the three formats, exactly: a reader that took it for another would read another name.
fn check_format(header: &Header) -> Result<(), Refusal> {
    let old = is_zero(&header.as_bytes()[257..265]);
    if old || header.as_ustar().is_some() || header.as_gnu().is_some() {
        Ok(())
    } else {
        Err(Refusal::Field("format"))
    }
}

fn short_name(header: &Header) -> Result<Vec<u8>, Refusal> {
    let Some(ustar) = header.as_ustar() else { return field(&header.as_old().name, "name") };
    let (prefix, name) = (field(&ustar.prefix, "name")?, field(&ustar.name, "name")?);
    Ok(if prefix.is_empty() { name } else { [&prefix[..], b"/", &name].concat() })
}

/// Text up to the first NUL; behind that only NULs, so that nothing is hidden from one reader.
fn field(bytes: &[u8], what: &'static str) -> Result<Vec<u8>, Refusal> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    if is_zero(&bytes[end..]) { Ok(bytes[..end].to_owned()) } else { Err(Refusal::Field(what)) }
}

fn mode(header: &Header) -> Result<u32, Refusal> {
    let mode = octal(&header.as_old().mode).ok_or(Refusal::Field("mode"))?;
    // The file type that some tools put above the permissions says nothing new.
    let permissions = (mode & 0o7777) as u32;
    if permissions & 0o7000 != 0 { Err(Refusal::SetId(permissions)) } else { Ok(permissions) }
}

fn size(header: &Header) -> Result<u64, Refusal> {
    let bytes = &header.as_old().size;
    if bytes[0] & 0x80 == 0 {
        return octal(bytes).ok_or(Refusal::Field("size"));
    }
    // GNU's binary form: the top bit, then a big-endian number of which 8 bytes are enough.
    let (head, tail) = bytes.split_at(4);
    match (head, <[u8; 8]>::try_from(tail)) {
        ([0x80, 0, 0, 0], Ok(number)) => Ok(u64::from_be_bytes(number)),
        _ => Err(Refusal::Field("size")),
    }
}

/// Octal digits, with spaces before and spaces and NULs behind.
fn octal(bytes: &[u8]) -> Option<u64> {
    let start = bytes.iter().position(|byte| *byte != b' ')?;
    let digits = &bytes[start..];
    let end = digits.iter().position(|byte| !(b'0'..=b'7').contains(byte)).unwrap_or(digits.len());
    if end == 0 || !digits[end..].iter().all(|byte| matches!(byte, 0 | b' ')) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(&digits[..end]).ok()?, 8).ok()
}

/// The sum of the header's bytes, with spaces in place of the sum itself.
fn checksum(block: &[u8]) -> u32 {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    sum(&block[..148]) + 8 * u32::from(b' ') + sum(&block[156..])
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_meaning() {
        for (text, value) in [(&b"0000644\0"[..], 0o644), (b"    644 ", 0o644), (b"644\0\0\0\0\0", 0o644)] {
            assert_eq!(octal(text), Some(value));
        }
        for bad in [&b"\0\0\0\0"[..], b"    ", b"+644\0", b"-1\0", b"64 4\0", b"648\0", b"0x1\0", b"6\x004\0"]
        {
            assert_eq!(octal(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn what_tools_put_around_a_name_is_stripped_and_nothing_else() {
        let file = |name: &str| plain(name.into(), false);
        assert_eq!(file("./a"), b"a");
        assert_eq!(file("././a"), b"a");
        assert_eq!(file(".a"), b".a");
        assert_eq!(file("../a"), b"../a");
        assert_eq!(file("a/"), b"a/");
        assert_eq!(plain("./".into(), true), b"");
        assert_eq!(plain("a/".into(), true), b"a");
        assert_eq!(plain("/".into(), true), b"/");
    }
}
