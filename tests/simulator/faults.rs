//! Which faults struck, counted: one that never has an effect is a test that cannot fail.
//!
//! A fault counts where it met something: a flip that recovery refused, a lost write that was on
//! its way, a full mailbox that had mail waiting. That a plan drew it does not count.

use std::fmt;

/// Declares [`Fault`] with the list of its kinds.
macro_rules! faults {
    ($($(#[$doc:meta])* $kind:ident)*) => {
        /// A kind of trouble, and of what the server is to survive.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fault {
            $($(#[$doc])* $kind,)*
        }

        impl Fault {
            pub const ALL: [Self; [$(stringify!($kind)),*].len()] = [$(Self::$kind),*];
        }
    };
}

faults! {
    /// Recovery found a torn tail, and repaired it.
    TornTail
    /// The power went while a torn tail was repaired.
    CutRepair
    /// A crash took all of a write that was on its way.
    LostWrite
    /// A crash left the whole of a write that had not ended.
    KeptWrite
    /// Recovery refused a log for a bit of a frame's records.
    FlippedRecord
    /// Recovery refused a log for a bit of a frame's or a segment's header.
    FlippedHeader
    /// Recovery refused a log for a bit where nothing was written.
    FlippedBlank
    /// Recovery refused a log in which a write had gone to another place.
    MisdirectedWrite
    /// Recovery refused a log whose files were mixed up.
    MixedUpFiles
    /// A start passed over a snapshot that was cut or flipped.
    SpoiledSnapshot
    /// The server crashed between two steps of making a snapshot.
    CutSnapshot
    /// The server started with another number of shards.
    OtherShards
    /// The server crashed while the state was divided anew.
    CutDivision
    /// Recovery could not read the disk.
    ReadError
    /// A write failed, and ended the server.
    WriteError
    /// A write came short, and ended the server.
    ShortWrite
    /// A segment could not be prepared: the disk was full.
    NoSpace
    /// A request was refused because the disk was full.
    DiskFull
    /// A write took far longer than others.
    Stall
    /// The clock was set back behind a time that a shard had seen.
    ClockBack
    /// The clock jumped ahead.
    ClockAhead
    /// The same request was on its way twice at once.
    DuplicateSend
    /// A connection was lost with answers on their way.
    LostAnswers
    /// A request was answered again over the other front.
    OtherFront
    /// Mail waited for room in a mailbox.
    FullMailbox
}

/// How often each kind struck.
#[derive(Clone, Copy, Default)]
pub struct Faults([u64; Fault::ALL.len()]);

impl Faults {
    pub fn count(&mut self, fault: Fault) {
        self.0[fault as usize] += 1;
    }

    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count += more;
        }
    }

    /// The kinds that never struck.
    pub fn missing(&self) -> Vec<Fault> {
        Fault::ALL.into_iter().filter(|fault| self.0[*fault as usize] == 0).collect()
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = Fault::ALL.into_iter().map(|fault| (fault, self.0[fault as usize]));
        f.debug_map().entries(counts).finish()
    }
}
