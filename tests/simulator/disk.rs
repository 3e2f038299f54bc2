//! A disk that lies: the segments of one shard's log.
//!
//! ```text
//! honest   what a disk would hold that does what it is told
//! actual   what this one holds, where it was damaged since it was last read
//! flying   the write that was begun and has not ended
//! unsynced what completed writes replaced, where nothing made them durable
//! ```
//!
//! A crash lets any [pieces](crate::tear) of the write in flight reach the disk and no others, and
//! takes back any of writes that were not made durable. Flips, misdirected writes and mixed-up
//! files go to `actual` alone, so that what recovery makes of them can be judged, and the honest
//! disk put back in the way in which an operator puts a backup back.
//!
//! No fault here takes the last completed frame away in a way that no log could notice: it is
//! the one frame without a later one to miss it.

use std::io;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use boxoffice::model::Lsn;
use boxoffice::wal::snapshot::SnapshotHeader;
use boxoffice::wal::{
    BLOCK_BYTES, FRAME_HEADER_BYTES, Identity, LogStorage, Position, SEGMENT_HEADER_BYTES, Segment,
    SegmentHeader, SegmentIndex, TornTail,
};

use crate::faults::Fault;
use crate::random::Random;
use crate::tear::{Left, cut, tear};

type Image = Vec<Vec<u8>>;

/// What a direct write is made of: it comes short between two of them.
const SECTOR_BYTES: usize = 512;

/// A snapshot as it lies on the disk.
pub struct Stored {
    pub header: SnapshotHeader,
    pub bytes: Vec<u8>,
    /// Whether it was cut or flipped since.
    pub is_damaged: bool,
}

/// How a disk was damaged since it was last read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Bits flipped at rest.
    Flipped,
    /// A write went to another place.
    Misdirected,
    /// A segment's file is another one, or is gone: recovery must refuse.
    Mixed,
}

pub struct Disk {
    identity: Identity,
    segment_bytes: u64,
    honest: Image,
    actual: Option<Image>,
    missing: Option<usize>,
    damage: Option<Damage>,
    /// What each flipped bit belongs to.
    flips: Vec<Fault>,
    /// The place whose file is another one.
    mixed: Option<usize>,
    /// Those that were not removed, oldest first.
    snapshots: Vec<Stored>,
    /// The places before this one were retired: their segments are gone.
    first: usize,
    /// A start from the newest snapshot, also from one that is being made, reads from here on.
    read_from: SegmentIndex,
    flying: Option<(Position, Vec<u8>)>,
    /// Where the write that is on its way came short, how many bytes of it are there.
    came_short: Option<usize>,
    unsynced: Vec<(Position, Vec<u8>)>,
    /// The last completed frame: where, and how long.
    last: Option<(Position, usize)>,
    /// The write that a crash met, which may have reached the disk all the same.
    cut_off: Option<(Position, usize)>,
}

impl Disk {
    /// A disk with the first segment of a new log.
    pub fn new(identity: Identity, segment_bytes: u64) -> Self {
        let mut disk = Self::before(SegmentIndex::FIRST, identity, segment_bytes);
        disk.prepare();
        disk
    }

    /// A disk with a snapshot, and the first segment of the log that begins behind it.
    pub fn behind(header: SnapshotHeader, bytes: Vec<u8>, segment_bytes: u64) -> Self {
        let mut disk = Self::before(header.position.segment, header.identity, segment_bytes);
        disk.prepare();
        disk.name_snapshot(header, bytes);
        disk
    }

    fn before(first: SegmentIndex, identity: Identity, segment_bytes: u64) -> Self {
        let first = first.0 as usize - 1;
        Self {
            identity,
            segment_bytes,
            honest: vec![Vec::new(); first],
            actual: None,
            missing: None,
            damage: None,
            flips: Vec::new(),
            mixed: None,
            snapshots: Vec::new(),
            first,
            read_from: SegmentIndex(first as u64 + 1),
            flying: None,
            came_short: None,
            unsynced: Vec::new(),
            last: None,
            cut_off: None,
        }
    }

    /// Makes the next segment, durably.
    pub fn prepare(&mut self) -> Segment {
        let index = SegmentIndex(self.honest.len() as u64 + 1);
        let segment = Segment { index, bytes: self.segment_bytes };
        let mut bytes = SegmentHeader { identity: self.identity, segment }.encode().to_vec();
        bytes.resize(segment.bytes as usize, 0);
        if let Some(actual) = &mut self.actual {
            actual.push(bytes.clone());
        }
        self.honest.push(bytes);
        segment
    }

    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// A write begins.
    pub fn begin(&mut self, position: Position, bytes: &[u8]) {
        assert!(self.flying.is_none(), "one write is in flight at most");
        self.flying = Some((position, bytes.to_vec()));
    }

    /// The write ends well.
    pub fn finish(&mut self, is_durable: bool) {
        let (position, bytes) = self.flying.take().expect("a write is in flight");
        if !is_durable {
            let old = read(&self.honest, position, bytes.len()).to_vec();
            self.unsynced.push((position, old));
        }
        self.last = Some((position, bytes.len()));
        for image in self.images() {
            write(image, position, &bytes);
        }
    }

    /// The write ends well, so the disk says, and went to another place: over what was written
    /// earlier, or over the header of the next segment. Where it is damaged already, or there is
    /// no such place, it goes where it should. Where no start looks any more it does not go: if
    /// it were the last frame, no log could miss it.
    pub fn finish_elsewhere(&mut self, random: &mut Random) {
        let (position, bytes) = self.flying.take().expect("a write is in flight");
        let target = self.wrong_place(position, bytes.len(), random);
        let goes_wrong = self.damage.is_none() && target != position;
        if goes_wrong {
            let actual = self.actual.get_or_insert_with(|| self.honest.clone());
            write(actual, target, &bytes);
            self.damage = Some(Damage::Misdirected);
            write(&mut self.honest, position, &bytes);
            self.last = Some((position, bytes.len()));
        } else {
            self.flying = Some((position, bytes));
            self.finish(true);
        }
    }

    /// The write ends with fewer bytes than it was to write. It is up to a crash what becomes of
    /// it; no more than these will be there.
    pub fn come_short(&mut self, random: &mut Random) {
        let (_, bytes) = self.flying.as_ref().expect("a write is in flight");
        self.came_short = Some(random.index(bytes.len() / SECTOR_BYTES) * SECTOR_BYTES);
    }

    fn wrong_place(&self, right: Position, len: usize, random: &mut Random) -> Position {
        let next = right.segment.next();
        if random.chance(100) && next.0 <= self.honest.len() as u64 {
            return Position { segment: next, offset: 0 };
        }
        let segment = SegmentIndex(random.between(self.read_from.0, right.segment.0));
        let end = if segment == right.segment { right.offset } else { self.segment_bytes };
        let last = end.min(self.segment_bytes - len as u64) / BLOCK_BYTES as u64;
        let offset = random.between(0, last) * BLOCK_BYTES as u64;
        // Over itself, but not at its place, it would leave what it was to write.
        Position { segment, offset }
    }

    /// The power goes: some pieces of what was not durable are there, and others are not. What
    /// became of the write that was on its way.
    pub fn crash(&mut self, random: &mut Random) -> Option<Left> {
        self.cut_off = None;
        let flying = self.flying.take().map(|(position, bytes)| {
            self.cut_off = Some((position, bytes.len()));
            let stale = self.records_before();
            let mut torn = read(&self.honest, position, bytes.len()).to_vec();
            let left = match self.came_short.take() {
                Some(len) => cut(&mut torn, &bytes, len),
                None => tear(&mut torn, &bytes, &stale, random),
            };
            for image in self.images() {
                write(image, position, &torn);
            }
            left
        });
        for (position, old) in std::mem::take(&mut self.unsynced).into_iter().rev() {
            let mut kept = read(&self.honest, position, old.len()).to_vec();
            tear(&mut kept, &old, &[], random);
            for image in self.images() {
                write(image, position, &kept);
            }
        }
        flying
    }

    /// Bytes of the last completed frame, without its head.
    fn records_before(&self) -> Vec<u8> {
        let Some((position, len)) = self.last else { return Vec::new() };
        let frame = read(&self.honest, position, len);
        let end = frame.iter().rposition(|byte| *byte != 0).unwrap_or_default();
        frame.get(FRAME_HEADER_BYTES..end).unwrap_or_default().to_vec()
    }

    /// Flips a bit, most often in what was written. Not in the last completed frame.
    pub fn flip(&mut self, random: &mut Random) {
        if self.damage.is_some_and(|damage| damage != Damage::Flipped) {
            return;
        }
        let (end, len) = self.last.map_or((0, 0), |(position, len)| (self.place(position), len));
        let written = end.max(BLOCK_BYTES as u64);
        let all = self.honest.len() as u64 * self.segment_bytes;
        let range = if random.chance(850) { written } else { all };
        // Most of a block is padding, and a retired segment is empty: a few tries make it a byte
        // that says something.
        let is_blank = |place: u64| {
            let segment = &self.honest[(place / self.segment_bytes) as usize];
            segment.get((place % self.segment_bytes) as usize).is_none_or(|&byte| byte == 0)
        };
        let mut place = random.below(range);
        for _ in 0..random.below(32) {
            if is_blank(place) {
                place = random.below(range);
            }
        }
        let is_retired = place / self.segment_bytes < self.first as u64;
        if is_retired || (end..end + len as u64).contains(&place) {
            return;
        }
        self.damage = Some(Damage::Flipped);
        self.flips.push(self.part_at(place));
        let actual = self.actual.get_or_insert_with(|| self.honest.clone());
        let byte = &mut actual[(place / self.segment_bytes) as usize]
            [(place % self.segment_bytes) as usize];
        *byte ^= 1 << random.below(8);
    }

    /// What a bit of this place belongs to.
    fn part_at(&self, place: u64) -> Fault {
        let segment = &self.honest[(place / self.segment_bytes) as usize];
        let at = (place % self.segment_bytes) as usize;
        let block = &segment[at - at % BLOCK_BYTES..][..BLOCK_BYTES];
        let is_head = block.starts_with(b"BXFR") && at % BLOCK_BYTES < FRAME_HEADER_BYTES;
        if at < SEGMENT_HEADER_BYTES || is_head {
            Fault::FlippedHeader
        } else if segment[at] == 0 {
            Fault::FlippedBlank
        } else {
            Fault::FlippedRecord
        }
    }

    /// Puts another segment's content in the place of a segment, or takes a segment away that
    /// has others behind it. Whether there was one.
    pub fn mix_up(&mut self, stranger: Option<&[u8]>, random: &mut Random) -> bool {
        if self.damage.is_some() {
            return false;
        }
        let count = self.honest.len() - self.first;
        let number = random.index(count);
        let place = self.first + number;
        let content = match stranger {
            Some(content) => content.to_vec(),
            None if count == 1 => return false,
            None if random.chance(300) && number + 1 < count => {
                (self.missing, self.mixed) = (Some(place), Some(place));
                self.damage = Some(Damage::Mixed);
                return true;
            }
            None => {
                let other = (number + 1 + random.index(count - 1)) % count;
                self.honest[self.first + other].clone()
            }
        };
        let actual = self.actual.get_or_insert_with(|| self.honest.clone());
        actual[place] = content;
        (self.damage, self.mixed) = (Some(Damage::Mixed), Some(place));
        true
    }

    /// The content of some segment.
    pub fn some_segment(&self, random: &mut Random) -> Vec<u8> {
        random.pick(&self.honest[self.first..]).clone()
    }

    pub fn damage(&self) -> Option<Damage> {
        self.damage
    }

    /// The fault that damaged it, where it was one alone.
    pub fn fault(&self) -> Option<Fault> {
        match self.damage? {
            Damage::Misdirected => Some(Fault::MisdirectedWrite),
            Damage::Mixed => Some(Fault::MixedUpFiles),
            Damage::Flipped => {
                let first = *self.flips.first()?;
                self.flips.iter().all(|flip| *flip == first).then_some(first)
            }
        }
    }

    /// Whether recovery from this segment on must notice that files were mixed up.
    pub fn is_mixed_from(&self, segment: SegmentIndex) -> bool {
        self.mixed.is_some_and(|place| place as u64 + 1 >= segment.0)
    }

    pub fn snapshots(&self) -> &[Stored] {
        &self.snapshots
    }

    /// A snapshot is begun that covers all before this segment.
    pub fn begin_snapshot(&mut self, position: SegmentIndex) {
        self.read_from = self.read_from.max(position);
    }

    /// A snapshot gets its name.
    pub fn name_snapshot(&mut self, header: SnapshotHeader, bytes: Vec<u8>) {
        self.snapshots.push(Stored { header, bytes, is_damaged: false });
    }

    /// Removes a snapshot that is damaged, or older than that of `base`. Whether there was one.
    pub fn drop_snapshot(&mut self, base: Lsn) -> bool {
        let goes = |stored: &Stored| {
            let lsn = stored.header.last_lsn;
            lsn < base || (stored.is_damaged && lsn != base)
        };
        let place = self.snapshots.iter().position(goes);
        place.map(|place| self.snapshots.remove(place)).is_some()
    }

    /// Removes the oldest segment, where it lies before this one. Whether it did.
    pub fn retire_before(&mut self, needed: SegmentIndex) -> bool {
        let first = self.first;
        let is_needed = self.first_segment() >= needed;
        if !is_needed {
            let retired = self.first_segment();
            self.unsynced.retain(|(position, _)| position.segment != retired);
            self.images().for_each(|image| image[first] = Vec::new());
            self.first += 1;
        }
        !is_needed
    }

    /// The oldest segment.
    pub fn first_segment(&self) -> SegmentIndex {
        SegmentIndex(self.first as u64 + 1)
    }

    /// Cuts a snapshot short or flips a bit of it, where all are whole, and a start without it is
    /// possible.
    pub fn spoil_snapshot(&mut self, random: &mut Random) {
        let is_spared = self.snapshots.len() > usize::from(self.first > 0);
        if !is_spared || self.snapshots.iter().any(|stored| stored.is_damaged) {
            return;
        }
        let place = random.index(self.snapshots.len());
        let Stored { bytes, is_damaged, .. } = &mut self.snapshots[place];
        *is_damaged = true;
        let at = random.index(bytes.len());
        if random.chance(400) {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 1 << random.below(8);
        }
    }

    /// Undoes all damage, as an operator does who has a backup.
    pub fn restore(&mut self) {
        self.actual = None;
        (self.missing, self.mixed) = (None, None);
        self.damage = None;
        self.flips.clear();
    }

    /// Takes the disk as it is for right from this segment on: recovery has accepted it, up to
    /// `end`. What it had no need to read is put right.
    pub fn accept(&mut self, start: SegmentIndex, end: Position) {
        let ends_here = |(position, len): &(Position, usize)| {
            Position { offset: position.offset + *len as u64, ..*position } == end
        };
        self.last = self.cut_off.take().filter(ends_here).or(self.last);
        if let Some(actual) = self.actual.take() {
            let unread = start.0 as usize - 1;
            self.honest.truncate(unread);
            self.honest.extend(actual.into_iter().skip(unread));
        }
        self.restore();
    }

    /// The disk as recovery sees it; the given read of it fails.
    pub fn open(&mut self, failing_read: Option<u64>) -> OpenDisk<'_> {
        let (missing, first) = (self.missing, self.first);
        let image = self.actual.as_mut().unwrap_or(&mut self.honest);
        let may_fail = self.damage.is_some() || failing_read.is_some();
        let before = may_fail.then(|| image.clone());
        OpenDisk {
            image: Mutex::new(image),
            before,
            missing,
            first,
            last: usize::MAX,
            failing_read,
            reads: AtomicU64::new(0),
        }
    }

    fn images(&mut self) -> impl Iterator<Item = &mut Image> {
        std::iter::once(&mut self.honest).chain(&mut self.actual)
    }

    fn place(&self, position: Position) -> u64 {
        (position.segment.0 - 1) * self.segment_bytes + position.offset
    }
}

/// A disk that is read by recovery.
pub struct OpenDisk<'a> {
    image: Mutex<&'a mut Image>,
    before: Option<Image>,
    missing: Option<usize>,
    first: usize,
    last: usize,
    failing_read: Option<u64>,
    reads: AtomicU64,
}

impl OpenDisk<'_> {
    /// The same disk, of which nothing behind this segment is seen.
    pub fn up_to(self, segment: SegmentIndex) -> Self {
        Self { last: segment.0 as usize - 1, ..self }
    }

    /// The power goes while the torn tail is zeroed.
    pub fn zero_some(&self, torn: &TornTail, random: &mut Random) {
        let mut image = self.image.lock().expect("no reader panics");
        let mut kept = read(&image, torn.start, torn.bytes as usize).to_vec();
        tear(&mut kept, &vec![0; torn.bytes as usize], &[], random);
        write(&mut image, torn.start, &kept);
    }

    /// Whether it is as it was when it was opened.
    pub fn is_unchanged(&self) -> bool {
        let image = self.image.lock().expect("no reader panics");
        self.before.as_ref().is_none_or(|before| **image == *before)
    }
}

impl LogStorage for OpenDisk<'_> {
    fn segments(&self) -> io::Result<Vec<Segment>> {
        let image = self.image.lock().expect("no reader panics");
        let is_there =
            |place: usize| (self.first..=self.last).contains(&place) && Some(place) != self.missing;
        let numbered = image.iter().enumerate().filter(|(place, _)| is_there(*place));
        Ok(numbered
            .map(|(place, bytes)| Segment {
                index: SegmentIndex(place as u64 + 1),
                bytes: bytes.len() as u64,
            })
            .collect())
    }

    fn read_at(&self, position: Position, into: &mut [u8]) -> io::Result<()> {
        if Some(self.reads.fetch_add(1, Ordering::Relaxed)) == self.failing_read {
            return Err(io::Error::other("the simulated disk cannot read this"));
        }
        let image = self.image.lock().expect("no reader panics");
        into.copy_from_slice(read(&image, position, into.len()));
        Ok(())
    }

    fn zero_and_sync(&self, position: Position, bytes: u64) -> io::Result<()> {
        let mut image = self.image.lock().expect("no reader panics");
        write(&mut image, position, &vec![0; bytes as usize]);
        Ok(())
    }

    fn path(&self, segment: SegmentIndex) -> PathBuf {
        PathBuf::from(format!("simulated/{segment}.wal"))
    }
}

fn read(image: &Image, position: Position, len: usize) -> &[u8] {
    &image[position.segment.0 as usize - 1][position.offset as usize..][..len]
}

fn write(image: &mut Image, position: Position, bytes: &[u8]) {
    image[position.segment.0 as usize - 1][position.offset as usize..][..bytes.len()]
        .copy_from_slice(bytes);
}
