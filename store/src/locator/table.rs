//! How the contents of a tree follow one another through frames: what a locator need not say.

use crate::limits::FRAME_RAW_BYTES_MAX;

/// In the place of a frame's raw size: what the rule by which frames are filled makes of its contents.
const FILLED: u32 = 0;
/// A content of several frames has no more of them than frames of this size would be.
pub(super) const FRAME_BYTES_LEAST: u64 = 64 << 10;

/// Contents that follow one another: the first one's frame, its offset there, and how many they are.
pub(super) type Run = (u32, u32, u32);

/// Where a content is, in numbers of frames.
pub(super) struct Spot {
    pub(super) frames: std::ops::Range<usize>,
    pub(super) offset: u32,
}

/// The raw sizes of a locator's frames, and the one way in which contents follow each other through them.
pub(super) struct Table {
    pub(super) raw: Vec<u32>,
    /// The rule by which frames are filled: contents share one up to this size, a larger one stands alone, in
    /// frames of [`FRAME_RAW_BYTES_MAX`].
    fill: u32,
}

impl Table {
    pub(super) const fn new(raw: Vec<u32>, fill: u32) -> Self {
        Self { raw, fill }
    }

    /// Where contents of these sizes are, which the runs must hold exactly.
    pub(super) fn spots(&mut self, runs: &[Run], sizes: &[u64]) -> Option<Vec<Spot>> {
        let mut spots = Vec::with_capacity(sizes.len());
        for (frame, offset, count) in runs {
            let from = spots.len();
            let run = sizes.get(from..from.checked_add(*count as usize)?).filter(|run| !run.is_empty())?;
            let mut at = (*frame as usize, *offset);
            for left in (0..run.len()).map(|index| &run[index..]) {
                let spot = self.spot(at, left)?;
                at = self.after(&spot, left[0]);
                spots.push(spot);
            }
        }
        (spots.len() == sizes.len()).then_some(spots)
    }

    /// Where the first of these contents is if it begins there.
    fn spot(&mut self, (frame, offset): (usize, u32), sizes: &[u64]) -> Option<Spot> {
        let size = sizes[0];
        if *self.raw.get(frame)? == FILLED {
            if offset != 0 {
                return None;
            }
            self.raw[frame] = self.filled(sizes);
        }
        if u64::from(offset) + size <= u64::from(self.raw[frame]) {
            return Some(Spot { frames: frame..frame + 1, offset });
        }
        let (mut end, mut left) = (frame, size);
        while left > 0 {
            if *self.raw.get(end)? == FILLED {
                self.raw[end] = self.filled(&[left]);
            }
            left = left.checked_sub(u64::from(self.raw[end]))?;
            end += 1;
        }
        // Frames smaller than any packer's would make a few hostile bytes a long list.
        (offset == 0 && (end - frame) as u64 <= size / FRAME_BYTES_LEAST + 1)
            .then_some(Spot { frames: frame..end, offset })
    }

    /// Where what follows a content begins.
    fn after(&self, spot: &Spot, size: u64) -> (usize, u32) {
        let end = u64::from(spot.offset) + size;
        match spot.frames.len() {
            1 if end < u64::from(self.raw[spot.frames.start]) => (spot.frames.start, end as u32),
            _ => (spot.frames.end, 0),
        }
    }

    /// The fewest runs in which contents at these positions follow one another.
    pub(super) fn runs(&mut self, positions: &[(usize, u32)], sizes: &[u64]) -> Option<Vec<Run>> {
        let mut runs: Vec<Run> = Vec::new();
        let mut next = None;
        for (index, (at, size)) in positions.iter().zip(sizes).enumerate() {
            let spot = self.spot(*at, &sizes[index..])?;
            match runs.last_mut() {
                Some((.., count)) if next == Some(*at) => *count += 1,
                _ => runs.push((at.0 as u32, at.1, 1)),
            }
            next = Some(self.after(&spot, *size));
        }
        Some(runs)
    }

    /// The raw sizes, with [`FILLED`] wherever a reader of these runs arrives at the same.
    pub(super) fn shortened(&self, runs: &[Run], sizes: &[u64]) -> Option<Vec<u32>> {
        let mut short = self.raw.clone();
        let mut met = vec![false; short.len()];
        let spots = Self::new(self.raw.clone(), self.fill).spots(runs, sizes)?;
        let mut end = 0;
        let ends = runs.iter().flat_map(|(.., count)| {
            end += *count as usize;
            std::iter::repeat_n(end, *count as usize)
        });
        for ((index, spot), end) in spots.iter().enumerate().zip(ends) {
            let mut left = sizes[index];
            for frame in spot.frames.clone() {
                let fill =
                    if left == sizes[index] { self.filled(&sizes[index..end]) } else { self.filled(&[left]) };
                if !met[frame] && spot.offset == 0 && self.raw[frame] == fill {
                    short[frame] = FILLED;
                }
                met[frame] = true;
                left = left.saturating_sub(u64::from(self.raw[frame]));
            }
        }
        Some(short)
    }

    /// The raw size of a frame that is filled with the first of these contents.
    fn filled(&self, sizes: &[u64]) -> u32 {
        let mut total = 0;
        for size in sizes {
            if total > 0 && total + size > u64::from(self.fill) {
                break;
            }
            total += size;
        }
        total.min(FRAME_RAW_BYTES_MAX as u64) as u32
    }
}
