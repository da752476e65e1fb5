//! Archives written byte by byte: a well-behaved library refuses to make the ones that matter.

/// Bytes of a header, and what contents are padded to.
const BLOCK: usize = 512;

/// A tar archive in the making.
#[derive(Debug, Default, Clone)]
pub struct Tar(Vec<u8>);

impl Tar {
    pub fn file(self, name: &str, content: &[u8]) -> Self {
        self.member(name, b'0', "", content)
    }

    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.member(name, b'2', target, b"")
    }

    pub fn hardlink(self, name: &str, target: &str) -> Self {
        self.member(name, b'1', target, b"")
    }

    /// Any member, of any type, with any name.
    pub fn member(mut self, name: &str, kind: u8, target: &str, content: &[u8]) -> Self {
        let mut header = [0u8; BLOCK];
        let mut set = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        set(0, name.as_bytes());
        set(100, b"0000644\0");
        set(108, b"0000000\0");
        set(116, b"0000000\0");
        set(124, format!("{:011o}\0", content.len()).as_bytes());
        set(136, b"00000000000\0");
        set(148, b"        ");
        set(156, &[kind]);
        set(157, target.as_bytes());
        set(257, b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
        self
    }

    /// The whole archive, with its end.
    pub fn finish(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 2 * BLOCK]);
        self.0
    }

    /// An archive that stops in the middle.
    pub fn cut(mut self, bytes_left_out: usize) -> Vec<u8> {
        self.0.truncate(self.0.len() - bytes_left_out);
        self.0
    }
}
