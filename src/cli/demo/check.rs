//! The check: asks the server again for every answer that it acknowledged.

use std::fmt;

use serde::Serialize;

use super::ledger::{Buyer, Fact, Known, Ledger, Plan, Step};
use crate::load::{Answered, Ask, Broken, Nanos, Planned, Script, Tag};
use crate::model::{Answer, OrderState, Outcome, Query, Refusal, SaleId};

/// Contradictions that are told in words.
const EXAMPLES_MAX: usize = 5;

/// What the check found.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Findings {
    /// Acknowledged answers, and orders behind them, that were asked for.
    pub checked: u64,
    /// Those that the server does not stand by.
    pub lost: u64,
    /// Those that could not be asked for.
    pub unchecked: u64,
    /// Some of the lost ones, in words.
    pub examples: Vec<String>,
}

impl Findings {
    /// Joins what another check found.
    pub(super) fn add(&mut self, other: Self) {
        self.checked += other.checked;
        self.lost += other.lost;
        self.unchecked += other.unchecked;
        self.examples.extend(other.examples);
        self.examples.truncate(EXAMPLES_MAX);
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} acknowledged facts checked, {} lost", self.checked, self.lost)?;
        if self.unchecked > 0 {
            write!(f, ", {} could not be checked", self.unchecked)?;
        }
        self.examples.iter().try_for_each(|example| write!(f, "\n    {example}"))
    }
}

/// One question: what became of a request, or how an order stands.
#[derive(Clone, Copy, Debug)]
enum Question {
    Request(usize, Step, Fact),
    Order(usize, Fact),
}

/// A script that asks for everything that a ledger has been told.
pub(super) struct Check<'a> {
    ledger: &'a Ledger,
    sale: SaleId,
    questions: Vec<Question>,
    asked: usize,
    query: Query,
    findings: Findings,
}

impl<'a> Check<'a> {
    pub(super) fn new(ledger: &'a Ledger, sale: SaleId) -> Self {
        let mut questions = Vec::new();
        for (index, buyer) in ledger.buyers.iter().enumerate() {
            if let Known::Done(fact) = buyer.first {
                questions.push(Question::Request(index, Step::First, fact));
                questions.push(Question::Order(index, fact));
            }
            if let Known::Done(fact) = buyer.second {
                questions.push(Question::Request(index, Step::Second, fact));
            }
        }
        let query = Query::Availability { sale };
        Self { ledger, sale, questions, asked: 0, query, findings: Findings::default() }
    }

    pub(super) fn is_done(&self) -> bool {
        self.findings.checked + self.findings.unchecked == self.questions.len() as u64
    }

    pub(super) fn into_findings(self) -> Findings {
        let total = self.questions.len() as u64;
        Findings { unchecked: total - self.findings.checked, ..self.findings }
    }
}

impl Script for Check<'_> {
    fn next(&mut self, _: Nanos, _: Nanos) -> Option<Planned<'_>> {
        let question = *self.questions.get(self.asked)?;
        let tag = Tag(self.asked as u64);
        self.asked += 1;
        self.query = match question {
            Question::Request(buyer, step, _) => {
                Query::Request { intent: self.ledger.intent(self.sale, buyer, step) }
            }
            Question::Order(_, fact) => Query::Order { sale: self.sale, order: fact.order() },
        };
        Some(Planned { tag, ask: Ask::Query(&self.query) })
    }

    fn answered(&mut self, answered: &Answered<'_>) {
        self.findings.checked += 1;
        let question = self.questions[answered.tag.0 as usize];
        let stands = match question {
            Question::Request(_, _, fact) => stands_by(answered.answer, fact),
            Question::Order(buyer, _) => is_so(answered.answer, &self.ledger.buyers[buyer]),
        };
        if !stands {
            self.findings.lost += 1;
            if self.findings.examples.len() < EXAMPLES_MAX {
                let example = format!("{question:?} but the server says {:?}", answered.answer);
                self.findings.examples.push(example);
            }
        }
    }

    fn lost(&mut self, _: Tag) {
        self.findings.unchecked += 1;
    }

    fn broken(&mut self, _: &Broken) {}
}

/// Whether a request still has the answer that it was given.
fn stands_by(answer: &Result<Answer, Refusal>, fact: Fact) -> bool {
    answer.as_ref().is_ok_and(|answer| Fact::of(&answer.outcome) == Some(fact))
}

/// Whether an order is its buyer's, has the basket, and is in a state that fits what was told.
fn is_so(answer: &Result<Answer, Refusal>, buyer: &Buyer) -> bool {
    let Ok(Answer { outcome: Outcome::Order(view), .. }) = answer else { return false };
    let state_fits = match (buyer.first, buyer.second) {
        (Known::Done(Fact::Confirmed { .. }), _) | (_, Known::Done(Fact::Confirmed { .. })) => {
            view.state == OrderState::Confirmed
        }
        (_, Known::Done(Fact::Released { .. })) => view.state == OrderState::Released,
        (_, Known::Asked) if buyer.plan == Plan::Confirm => view.state != OrderState::Released,
        (_, Known::Asked) => view.state != OrderState::Confirmed,
        _ => matches!(view.state, OrderState::Held | OrderState::Expired),
    };
    state_fits && view.account == buyer.account && view.lines == buyer.basket()
}
