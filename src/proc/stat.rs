//! One line of `/proc/<pid>/stat`.

use crate::start::ProcessId;

/// What the kernel says of a process in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// Which process.
    pub id: ProcessId,
    /// Its command name, at most 15 bytes.
    pub command: String,
    /// `R`, `S`, `D`, `T`, `Z`, ….
    pub state: char,
    /// Its parent's pid.
    pub parent: u32,
    /// Its process group.
    pub group: u32,
    /// Its session.
    pub session: u32,
    /// It has a controlling terminal: a person's, never a service.
    pub has_terminal: bool,
}

impl Stat {
    /// Whether it runs: a zombie does not.
    pub fn is_live(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }

    /// Whether it is stopped by a signal.
    pub fn is_stopped(&self) -> bool {
        matches!(self.state, 'T' | 't')
    }

    /// Parses the line. The name is in brackets and may itself hold brackets and spaces.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let open = line.iter().position(|byte| *byte == b'(')?;
        let close = line.iter().rposition(|byte| *byte == b')')?;
        let pid = std::str::from_utf8(&line[..open]).ok()?.trim().parse().ok()?;
        let rest = std::str::from_utf8(line.get(close + 1..)?).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        Some(Self {
            id: ProcessId { pid, started_ticks: fields.get(19)?.parse().ok()? },
            command: String::from_utf8_lossy(line.get(open + 1..close)?).into_owned(),
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            has_terminal: *fields.get(4)? != "0",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "42 (a) b (c) S 7 42 40 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765 1 2 3";

    #[test]
    fn a_name_with_brackets_and_spaces_is_read_whole() {
        let stat = Stat::parse(LINE.as_bytes()).unwrap();
        assert_eq!(stat.command, "a) b (c");
        assert_eq!(stat.id, ProcessId { pid: 42, started_ticks: 98765 });
        assert_eq!((stat.parent, stat.group, stat.session, stat.has_terminal), (7, 42, 40, false));
    }

    #[test]
    fn a_line_cut_anywhere_is_refused_or_read_the_same() {
        for end in 0..LINE.len() {
            let Some(stat) = Stat::parse(&LINE.as_bytes()[..end]) else {
                continue;
            };
            assert_eq!(stat.parent, 7);
        }
    }
}
