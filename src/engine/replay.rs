//! Carries out the records of a log, some together.
//!
//! A record alone waits for the memory that it looks up. Records read back are known some ahead,
//! so what a few dozen of them look up is read together before the first is carried out. And no
//! record looks up a request: those are put into their index at the end, all at once.
//!
//! The order of the records is kept: only the reading runs ahead. There is no checking here; what
//! does not fit ends the process, as in [`Engine::apply`].

use super::Engine;
use super::prepare::TOGETHER;
use crate::canary::{Canary, planted};
use crate::model::SaleTerms;
use crate::model::record::{Record, SaleDefined};

/// An engine that is being rebuilt from a log.
pub struct Replay {
    engine: Engine,
    /// Records that are not carried out yet.
    waiting: Vec<Record>,
}

impl Replay {
    /// Goes on from the state that `engine` has.
    #[must_use]
    pub fn new(mut engine: Engine) -> Self {
        engine.sales.iter_mut().for_each(|sale| sale.requests.set_aside());
        Self { engine, waiting: Vec::with_capacity(TOGETHER) }
    }

    /// Takes the log's next record.
    ///
    /// # Panics
    ///
    /// As [`Engine::apply`], for this record or an earlier one.
    #[inline]
    pub fn push(&mut self, record: &Record) {
        self.waiting.push(record.clone());
        if self.waiting.len() == TOGETHER {
            self.apply_waiting();
        }
    }

    /// The engine, with every record carried out.
    ///
    /// # Panics
    ///
    /// As [`Engine::apply`], for one of the last records.
    #[must_use]
    pub fn finish(mut self) -> Engine {
        self.apply_waiting();
        self.engine.sales.iter_mut().for_each(|sale| sale.requests.settle());
        self.engine
    }

    fn apply_waiting(&mut self) {
        self.engine.prepare_records(&self.waiting);
        for record in &self.waiting {
            match record {
                Record::SaleDefined(defined) if planted(Canary::ForgetLimitOnReplay) => {
                    let terms = SaleTerms { account_limit: None, ..defined.terms };
                    let defined = SaleDefined { terms, ..*defined };
                    self.engine.apply(&Record::SaleDefined(defined));
                }
                _ => self.engine.apply(record),
            }
            if let Record::SaleDefined(SaleDefined { sale, .. }) = record {
                self.engine.sale_mut(*sale).requests.set_aside();
            }
        }
        self.waiting.clear();
        // What an archived sale left behind is freed on the way.
        self.engine.reclaim();
    }
}
