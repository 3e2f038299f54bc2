//! Ctrl-C and the like: the demo ends early, and in order.
//!
//! The first signal is noted, and whatever runs looks for it; what was begun is then dropped, the
//! server and its directory with it. The second one ends the demo at once, and the server with it,
//! for it dies with its parent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use super::failure;
use crate::cli::Failed;

/// Whether the demo was asked to end.
#[derive(Debug)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Listens for signals from now on.
    pub(super) fn listen() -> Result<Self, Failed> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            flag::register_conditional_default(signal, Arc::clone(&asked))
                .and_then(|_| flag::register(signal, Arc::clone(&asked)))
                .map_err(|error| failure(format_args!("cannot catch signals: {error}")))?;
        }
        Ok(Self(asked))
    }

    /// The failure, once somebody asked.
    pub(super) fn check(&self) -> Result<(), Failed> {
        if self.0.load(Ordering::Relaxed) {
            return Err(failure(
                "the demo was interrupted and proves nothing; its server is stopped and its \
                 directory is removed",
            ));
        }
        Ok(())
    }
}
