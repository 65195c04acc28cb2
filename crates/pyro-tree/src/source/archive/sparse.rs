//! Where the holes of a file are.
//!
//! A map comes from the archive, so it is checked before it is used: pieces in order, none beyond the file's end, and together exactly
//! what the archive holds. Content is then read by position, without looking the whole map over for each piece.

/// The pieces of one file that are stored, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Map {
    pieces: Vec<(u64, u64)>,
    size: u64,
}

/// What lies at a position: stored bytes or a hole, and how far it goes; at the end it is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) hole: bool,
    pub(super) length: u64,
}

impl Map {
    /// A file without holes.
    pub(super) fn whole(size: u64) -> Self {
        Self { pieces: vec![(0, size)], size }
    }

    /// Takes the map of a file of `size` bytes of which `stored` are in the archive; `None` when they do not fit together.
    pub(super) fn new(pieces: Vec<(u64, u64)>, size: u64, stored: u64) -> Option<Self> {
        let mut end = 0;
        let mut sum = 0_u64;
        for (offset, length) in &pieces {
            if *offset < end {
                return None;
            }
            end = offset.checked_add(*length).filter(|end| *end <= size)?;
            sum = sum.checked_add(*length)?;
        }
        let pieces = pieces.into_iter().filter(|(_, length)| *length > 0).collect();
        (sum == stored).then_some(Self { pieces, size })
    }

    /// Returns what lies at a position.
    pub(super) fn at(&self, position: u64) -> Stretch {
        let next = self.pieces.partition_point(|(offset, length)| offset + length <= position);
        match self.pieces.get(next) {
            Some((offset, length)) if *offset <= position => Stretch { hole: false, length: offset + length - position },
            Some((offset, _)) => Stretch { hole: true, length: offset - position },
            None => Stretch { hole: true, length: self.size.saturating_sub(position) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_pieces_and_holes_take_turns() {
        let map = Map::new(vec![(2, 3), (8, 2), (12, 0)], 12, 5).unwrap();
        let hole = |length| Stretch { hole: true, length };
        let stored = |length| Stretch { hole: false, length };
        for (position, expected) in
            [(0, hole(2)), (2, stored(3)), (4, stored(1)), (5, hole(3)), (9, stored(1)), (10, hole(2)), (12, hole(0))]
        {
            assert_eq!(map.at(position), expected, "{position}");
        }
        assert_eq!(Map::whole(0).at(0), Stretch { hole: true, length: 0 });
    }

    #[test]
    fn a_map_that_does_not_fit_is_none() {
        for (pieces, size, stored) in [
            (vec![(5, 2), (4, 1)], 10, 3),
            (vec![(0, 4), (3, 1)], 10, 5),
            (vec![(9, 2)], 10, 2),
            (vec![(0, 2)], 10, 3),
            (vec![(u64::MAX, 2)], u64::MAX, 2),
        ] {
            assert_eq!(Map::new(pieces, size, stored), None);
        }
    }
}
