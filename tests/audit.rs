//! The audit: a log that keeps every rule passes, and for each rule a log that breaks it, record
//! by record made by hand, is caught under that rule's name.

use std::collections::BTreeSet;
use std::fs;

use boxoffice::audit::{
    AuditError, ItemReport, OrderCounts, Report, Rule, VIOLATIONS_LISTED_MAX, audit,
};
use boxoffice::model::record::{
    Bought, Cancelled, Confirmed, Expired, Extended, Fenced, Held, ItemDefined, Origin,
    RecordLines, Released, Restocked, SaleArchived, SaleDefined, SaleStateSet,
};
use boxoffice::model::{
    AccountId, BodyDigest, DurationMs, ItemId, ItemTerms, Line, OrderNumber, PaymentRef, Price,
    Quantity, Record, RequestId, SaleId, SaleState, SaleTerms, TimeMs,
};

#[path = "support/log_files.rs"]
mod log_files;
use log_files::DataDir;

const SALE: SaleId = SaleId(7);
const TTL_MS: u64 = 60_000;
const ANN: u128 = 1;
const BOB: u128 = 2;
const CAT: u128 = 3;

/// A log in the making. Every request gets an id of its own unless a test says otherwise.
#[derive(Clone, Default)]
struct Story {
    rows: Vec<(u64, Record)>,
    time: u64,
    requests: u128,
}

type Lines<'a> = &'a [(u32, u32)];

fn record_lines(lines: Lines<'_>) -> RecordLines {
    lines
        .iter()
        .map(|&(item, quantity)| Line { item: ItemId(item), quantity: Quantity(quantity) })
        .collect()
}

fn sale_terms() -> SaleTerms {
    SaleTerms {
        hold_ttl: DurationMs(TTL_MS as u32),
        account_limit: Some(Quantity(8)),
        ..SaleTerms::default()
    }
}

fn item_terms(capacity: u32, limit: Option<u32>) -> ItemTerms {
    let account_limit = limit.map(Quantity);
    ItemTerms { capacity: Quantity(capacity), price: Price(100), account_limit }
}

impl Story {
    /// A sale of item 1 (10 units, 6 for an account) and item 2 (5 units), not open yet.
    fn defined() -> Self {
        let mut story = Self { time: 100, ..Self::default() };
        story.define_sale(sale_terms());
        story.define_item(1, item_terms(10, Some(6)));
        story.define_item(2, item_terms(5, None));
        story
    }

    fn open() -> Self {
        let mut story = Self::defined();
        story.set_state(SaleState::Open);
        story
    }

    fn push(&mut self, record: Record) {
        self.rows.push((self.time, record));
    }

    fn at(&mut self, time: u64) -> &mut Self {
        self.time = time;
        self
    }

    fn origin(&mut self, account: u128) -> Origin {
        self.requests += 1;
        Origin {
            sale: SALE,
            account: AccountId(account),
            request: RequestId(self.requests),
            digest: BodyDigest(0),
        }
    }

    /// Makes the next request reuse an id.
    fn with_request(&mut self, request: u128) -> &mut Self {
        self.requests = request - 1;
        self
    }

    fn define_sale(&mut self, terms: SaleTerms) {
        self.push(Record::SaleDefined(SaleDefined { sale: SALE, terms }));
    }

    fn define_item(&mut self, item: u32, terms: ItemTerms) {
        self.push(Record::ItemDefined(ItemDefined { sale: SALE, item: ItemId(item), terms }));
    }

    fn set_state(&mut self, state: SaleState) {
        self.push(Record::SaleStateSet(SaleStateSet { sale: SALE, state }));
    }

    fn archive(&mut self) {
        self.push(Record::SaleArchived(SaleArchived { sale: SALE }));
    }

    fn restock(&mut self, account: u128, item: u32, by: i64) {
        let origin = self.origin(account);
        self.push(Record::Restocked(Restocked { origin, item: ItemId(item), by }));
    }

    fn hold_until(&mut self, account: u128, order: u32, expires_at: u64, lines: Lines<'_>) {
        let (origin, lines) = (self.origin(account), record_lines(lines));
        let (order, expires_at) = (OrderNumber(order), TimeMs(expires_at));
        self.push(Record::Held(Held { origin, order, expires_at, lines }));
    }

    fn hold(&mut self, account: u128, order: u32, lines: Lines<'_>) {
        self.hold_until(account, order, self.time + TTL_MS, lines);
    }

    fn buy(&mut self, account: u128, order: u32, lines: Lines<'_>) {
        let (origin, lines) = (self.origin(account), record_lines(lines));
        let payment = PaymentRef::default();
        self.push(Record::Bought(Bought { origin, order: OrderNumber(order), lines, payment }));
    }

    fn confirm(&mut self, account: u128, order: u32, lines: Lines<'_>) {
        let (origin, lines) = (self.origin(account), record_lines(lines));
        let payment = PaymentRef::default();
        let order = OrderNumber(order);
        self.push(Record::Confirmed(Confirmed { origin, order, lines, payment }));
    }

    fn release(&mut self, account: u128, order: u32) {
        let origin = self.origin(account);
        self.push(Record::Released(Released { origin, order: OrderNumber(order) }));
    }

    fn extend(&mut self, account: u128, order: u32) {
        let (origin, expires_at) = (self.origin(account), TimeMs(self.time + TTL_MS));
        self.push(Record::Extended(Extended { origin, order: OrderNumber(order), expires_at }));
    }

    fn cancel(&mut self, account: u128, order: u32, lines: Lines<'_>) {
        let (origin, lines) = (self.origin(account), record_lines(lines));
        self.push(Record::Cancelled(Cancelled { origin, order: OrderNumber(order), lines }));
    }

    fn expire(&mut self, order: u32) {
        self.push(Record::Expired(Expired { sale: SALE, order: OrderNumber(order) }));
    }

    fn fence(&mut self, account: u128) {
        let Origin { sale, account, request, .. } = self.origin(account);
        self.push(Record::Fenced(Fenced { sale, account, request }));
    }

    fn audit(&self) -> Report {
        let dir = DataDir::new();
        dir.write_shard(0, 1, &self.rows);
        audit(dir.path()).expect("there is a log")
    }
}

/// Everything that a sale can go through until it is over, by the rules.
fn closed_story() -> Story {
    let mut story = Story::defined();
    story.define_sale(sale_terms());
    story.define_item(1, item_terms(12, Some(6)));
    story.restock(0, 1, -2);
    story.at(1_000).set_state(SaleState::Open);
    story.hold(ANN, 1, &[(1, 4), (2, 2)]);
    story.buy(BOB, 2, &[(1, 6)]);
    story.at(2_000).extend(ANN, 1);
    story.confirm(ANN, 1, &[(1, 1), (2, 2)]);
    story.cancel(ANN, 1, &[(2, 1)]);
    // What partial confirms and cancels gave back counts against no limit any more.
    story.buy(ANN, 3, &[(1, 3), (2, 3)]);
    story.set_state(SaleState::Paused);
    story.cancel(BOB, 2, &[]);
    story.restock(0, 2, 3);
    story.set_state(SaleState::Open);
    story.hold(CAT, 4, &[(1, 6)]);
    story.hold(BOB, 5, &[(2, 2)]);
    story.hold(BOB, 6, &[(2, 1)]);
    // The same request id belongs to each account apart.
    story.with_request(1).fence(CAT);
    story.requests = 1_000;
    story.release(BOB, 5);
    story.at(2_000 + TTL_MS).expire(4);
    story.at(2_000 + TTL_MS + 5).expire(6);
    story.hold(CAT, 7, &[(1, 6)]);
    story.set_state(SaleState::Closed);
    story.at(2_000 + TTL_MS + 6).confirm(CAT, 7, &[]);
    story
}

/// The same, with the sale archived.
fn clean_story() -> Story {
    let mut story = closed_story();
    story.archive();
    story
}

#[test]
fn a_log_that_keeps_the_rules_is_clean() {
    let report = clean_story().audit();
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.sales.len(), 1);
    let sale = &report.sales[0];
    assert_eq!((sale.sale, sale.shard, sale.logged_state), (7, 0, "archived"));
    let orders = OrderCounts { held: 0, confirmed: 3, released: 1, expired: 2, cancelled: 1 };
    assert_eq!(sale.orders, orders);
    let first = ItemReport { item: 1, capacity: 10, available: 0, held: 0, sold: 10 };
    let second = ItemReport { item: 2, capacity: 8, available: 4, held: 0, sold: 4 };
    assert_eq!(sale.items, [first, second]);
    assert_eq!(report.shards[0].records, clean_story().rows.len() as u64);
    assert_eq!(report.shards[0].frames, Some(clean_story().rows.len() as u64));
}

#[test]
fn the_window_opens_and_closes_a_sale() {
    let terms =
        SaleTerms { opens_at: Some(TimeMs(1_000)), closes_at: Some(TimeMs(2_000)), ..sale_terms() };
    let mut story = Story::defined();
    story.define_sale(terms);
    story.at(1_000).hold(ANN, 1, &[(1, 1)]);
    story.at(1_999).hold(BOB, 2, &[(1, 1)]);
    story.at(2_000).confirm(BOB, 2, &[]);
    assert!(story.audit().is_clean(), "{}", story.audit());

    for time in [999, 2_000] {
        let mut story = Story::defined();
        story.define_sale(terms);
        story.at(time).hold(ANN, 1, &[(1, 1)]);
        assert_found(&story, Rule::NotOpen);
    }
    let mut story = Story::defined();
    story.define_sale(terms);
    story.at(1_000).define_item(3, item_terms(1, None));
    assert_found(&story, Rule::TermsAfterOpening);
    let mut story = Story::defined();
    story.define_sale(terms);
    story.at(2_000).set_state(SaleState::Open);
    assert_found(&story, Rule::Reopened);
}

/// The last record breaks this rule and no other, and the ones before break none.
fn assert_found(story: &Story, rule: Rule) {
    let report = story.audit();
    let rules: Vec<Rule> = report.violations.iter().map(|violation| violation.rule).collect();
    assert_eq!(rules, [rule], "{report}");
    assert!(!report.is_clean() && report.violation_count == 1);
    let violation = &report.violations[0];
    assert_eq!(violation.lsn, story.rows.len() as u64, "{report}");
    assert!(report.to_string().contains(&format!("VIOLATION {rule}: sale ")), "{report}");
}

/// A log that breaks a rule in its last record, under the rule's name.
type Case = (Rule, Story);

fn case(rule: Rule, mut story: Story, end: impl FnOnce(&mut Story)) -> Case {
    end(&mut story);
    (rule, story)
}

/// Order 1 of Ann: 4 of item 1 and 2 of item 2.
const LINES: Lines<'static> = &[(1, 4), (2, 2)];

/// The sale is open, and then this.
fn after(then: impl FnOnce(&mut Story)) -> Story {
    let mut story = Story::open();
    then(&mut story);
    story
}

fn held() -> Story {
    after(|s| s.hold(ANN, 1, LINES))
}

fn bought() -> Story {
    after(|s| s.buy(ANN, 1, LINES))
}

fn broken_terms() -> Vec<Case> {
    let (defined, open) = (Story::defined, Story::open);
    let closed = || after(|s| s.set_state(SaleState::Closed));
    let paused = || after(|s| s.set_state(SaleState::Paused));
    let archived = || {
        let mut story = closed();
        story.archive();
        story
    };
    let no_ttl = SaleTerms { hold_ttl: DurationMs(0), ..sale_terms() };
    let no_limit = SaleTerms { account_limit: Some(Quantity(0)), ..sale_terms() };
    let (opens_at, closes_at) = (Some(TimeMs(900)), Some(TimeMs(900)));
    let no_window = SaleTerms { opens_at, closes_at, ..sale_terms() };
    vec![
        case(Rule::UnknownSale, Story::default(), |s| s.expire(1)),
        case(Rule::UnknownItem, open(), |s| s.buy(ANN, 1, &[(9, 1)])),
        case(Rule::UnknownItem, open(), |s| s.restock(0, 9, 1)),
        case(Rule::TermsOutOfRange, defined(), |s| s.define_sale(no_ttl)),
        case(Rule::TermsOutOfRange, defined(), |s| s.define_sale(no_limit)),
        case(Rule::TermsOutOfRange, defined(), |s| s.define_sale(no_window)),
        case(Rule::TermsOutOfRange, defined(), |s| s.define_item(3, item_terms(1 << 30, None))),
        case(Rule::TermsOutOfRange, defined(), |s| s.define_item(3, item_terms(1, Some(0)))),
        case(Rule::TermsAfterOpening, open(), |s| s.define_item(3, item_terms(1, None))),
        case(Rule::TermsAfterOpening, open(), |s| s.define_sale(sale_terms())),
        case(Rule::Reopened, closed(), |s| s.set_state(SaleState::Open)),
        case(Rule::Reopened, closed(), |s| s.set_state(SaleState::Paused)),
        case(Rule::Reopened, open(), |s| s.set_state(SaleState::Scheduled)),
        case(Rule::ArchivedEarly, open(), Story::archive),
        case(Rule::ArchivedEarly, paused(), Story::archive),
        case(Rule::ArchivedEarly, closed(), |s| s.set_state(SaleState::Archived)),
        case(Rule::ArchivedEarly, after(|s| s.hold(ANN, 1, LINES)), |s| {
            s.set_state(SaleState::Closed);
            s.archive();
        }),
        case(Rule::AfterArchive, archived(), Story::archive),
        case(Rule::AfterArchive, archived(), |s| s.restock(0, 1, 1)),
        case(Rule::AfterArchive, archived(), |s| s.define_sale(sale_terms())),
        case(Rule::AfterArchive, archived(), |s| s.buy(ANN, 1, LINES)),
        case(Rule::NotOpen, defined(), |s| s.hold(ANN, 1, LINES)),
        case(Rule::NotOpen, closed(), |s| s.buy(ANN, 1, LINES)),
        case(Rule::NotOpen, paused(), |s| s.hold(ANN, 1, LINES)),
    ]
}

fn broken_stock_and_limits() -> Vec<Case> {
    let six_sold = || after(|s| s.buy(ANN, 1, &[(1, 6)]));
    vec![
        case(Rule::Capacity, six_sold(), |s| s.buy(BOB, 2, &[(1, 5)])),
        case(Rule::Capacity, six_sold(), |s| s.hold(BOB, 2, &[(1, 5)])),
        case(Rule::RestockTooFar, six_sold(), |s| s.restock(0, 1, -5)),
        case(Rule::RestockTooFar, six_sold(), |s| s.restock(0, 1, 1_000_000_000)),
        case(Rule::RestockTooFar, six_sold(), |s| s.restock(0, 1, i64::MIN)),
        case(Rule::SaleLimit, six_sold(), |s| s.buy(ANN, 2, &[(2, 3)])),
        case(Rule::ItemLimit, six_sold(), |s| s.hold(ANN, 2, &[(1, 1)])),
    ]
}

fn broken_orders() -> Vec<Case> {
    let released = || {
        let mut story = held();
        story.release(ANN, 1);
        story
    };
    let expired = || {
        let mut story = held();
        story.at(100 + TTL_MS).expire(1);
        story
    };
    let cancelled = |lines| {
        let mut story = bought();
        story.cancel(ANN, 1, lines);
        story
    };
    vec![
        case(Rule::UnknownOrder, held(), |s| s.release(ANN, 2)),
        case(Rule::UnknownOrder, held(), |s| s.expire(0)),
        case(Rule::OrderNumbers, Story::open(), |s| s.hold(ANN, 2, LINES)),
        case(Rule::OrderNumbers, Story::open(), |s| s.buy(ANN, 0, LINES)),
        case(Rule::OrderNumbers, held(), |s| s.buy(BOB, 1, &[(1, 1)])),
        case(Rule::OrderNumbers, held(), |s| s.buy(BOB, u32::MAX, &[(1, 1)])),
        case(Rule::OrderState, bought(), |s| s.confirm(ANN, 1, &[])),
        case(Rule::OrderState, bought(), |s| s.release(ANN, 1)),
        case(Rule::OrderState, bought(), |s| s.extend(ANN, 1)),
        case(Rule::OrderState, bought(), |s| s.at(100 + TTL_MS).expire(1)),
        case(Rule::OrderState, held(), |s| s.cancel(ANN, 1, &[])),
        case(Rule::OrderState, released(), |s| s.release(ANN, 1)),
        case(Rule::OrderState, released(), |s| s.confirm(ANN, 1, &[])),
        case(Rule::OrderState, released(), |s| s.at(100 + TTL_MS).expire(1)),
        case(Rule::OrderState, expired(), |s| s.confirm(ANN, 1, &[])),
        case(Rule::OrderState, expired(), |s| s.expire(1)),
        case(Rule::OrderState, cancelled(LINES), |s| s.cancel(ANN, 1, &[])),
        case(Rule::LinesBeyondOrder, held(), |s| s.confirm(ANN, 1, &[(1, 5)])),
        case(Rule::LinesBeyondOrder, held(), |s| s.confirm(ANN, 1, &[(1, 4), (3, 1)])),
        case(Rule::LinesBeyondOrder, bought(), |s| s.cancel(ANN, 1, &[(2, 3)])),
        case(Rule::LinesBeyondOrder, cancelled(&[(1, 3)]), |s| s.cancel(ANN, 1, &[(1, 2)])),
        case(Rule::WrongAccount, held(), |s| s.confirm(BOB, 1, &[])),
        case(Rule::WrongAccount, bought(), |s| s.cancel(BOB, 1, &[])),
        case(Rule::OperatorAccount, Story::open(), |s| s.buy(0, 1, LINES)),
        case(Rule::OperatorAccount, Story::open(), |s| s.restock(ANN, 1, 1)),
    ]
}

fn broken_requests_and_times() -> Vec<Case> {
    let fenced = || {
        let mut story = held();
        story.fence(ANN);
        story
    };
    let extended = || {
        let mut story = held();
        story.at(200).extend(ANN, 1);
        story
    };
    let (early, late) = (99 + TTL_MS, 100 + TTL_MS);
    vec![
        case(Rule::RequestReused, held(), |s| s.with_request(1).release(ANN, 1)),
        case(Rule::RequestReused, held(), |s| s.with_request(1).buy(ANN, 2, &[(2, 1)])),
        case(Rule::RequestReused, fenced(), |s| s.with_request(2).fence(ANN)),
        // The third id of the account: none of those that are looked at first.
        case(Rule::RequestReused, fenced(), |s| {
            s.extend(ANN, 1);
            s.with_request(3).release(ANN, 1);
        }),
        case(Rule::FencedRequest, fenced(), |s| {
            s.fence(ANN);
            s.with_request(3).release(ANN, 1);
        }),
        case(Rule::FencedRequest, fenced(), |s| s.with_request(2).buy(ANN, 2, &[(2, 1)])),
        case(Rule::FencedRequest, held(), |s| s.with_request(1).fence(ANN)),
        case(Rule::TooManyFences, Story::open(), |s| (0..17).for_each(|_| s.fence(ANN))),
        case(Rule::HoldTtl, Story::open(), |s| s.hold_until(ANN, 1, 101 + TTL_MS, LINES)),
        case(Rule::HoldTtl, Story::open(), |s| s.hold_until(ANN, 1, 100, LINES)),
        case(Rule::ExpiredEarly, held(), |s| s.at(early).expire(1)),
        case(Rule::ExpiredEarly, extended(), |s| s.at(late).expire(1)),
        case(Rule::AfterDeadline, held(), |s| s.at(late).confirm(ANN, 1, &[])),
        case(Rule::AfterDeadline, held(), |s| s.at(late).extend(ANN, 1)),
        case(Rule::AfterDeadline, held(), |s| s.at(late).release(ANN, 1)),
        case(Rule::ExtendedTwice, extended(), |s| s.at(300).extend(ANN, 1)),
    ]
}

/// Fails to compile where a rule is new: then it needs a broken log above.
const fn is_covered_elsewhere(rule: Rule) -> bool {
    match rule {
        // They take two shards, and a snapshot: `tests/snapshot_tools.rs`.
        Rule::WrongShard | Rule::SnapshotDisagrees | Rule::SnapshotDiffers => true,
        Rule::UnknownSale
        | Rule::UnknownItem
        | Rule::UnknownOrder
        | Rule::TermsOutOfRange
        | Rule::TermsAfterOpening
        | Rule::Reopened
        | Rule::ArchivedEarly
        | Rule::AfterArchive
        | Rule::NotOpen
        | Rule::Capacity
        | Rule::RestockTooFar
        | Rule::SaleLimit
        | Rule::ItemLimit
        | Rule::OrderNumbers
        | Rule::OrderState
        | Rule::LinesBeyondOrder
        | Rule::WrongAccount
        | Rule::OperatorAccount
        | Rule::RequestReused
        | Rule::FencedRequest
        | Rule::TooManyFences
        | Rule::HoldTtl
        | Rule::ExpiredEarly
        | Rule::AfterDeadline
        | Rule::ExtendedTwice => false,
    }
}

#[test]
fn each_broken_rule_is_caught_by_its_name() {
    let mut cases = broken_terms();
    cases.extend(broken_stock_and_limits());
    cases.extend(broken_orders());
    cases.extend(broken_requests_and_times());
    for (rule, story) in &cases {
        assert_found(story, *rule);
    }
    let caught: BTreeSet<Rule> = cases.iter().map(|(rule, _)| *rule).collect();
    assert_eq!(caught.len(), 25, "{caught:?}");
    assert!(caught.iter().all(|rule| !is_covered_elsewhere(*rule)));
}

#[test]
fn a_sale_on_another_shard_is_caught() {
    let owner = SALE.shard(2.try_into().unwrap()).0;
    for shard in [0, 1] {
        let dir = DataDir::new();
        dir.write_shard(shard, 2, &Story::open().rows);
        dir.write_shard(1 - shard, 2, &[]);
        let report = audit(dir.path()).unwrap();
        let rules: Vec<Rule> = report.violations.iter().map(|violation| violation.rule).collect();
        if shard == owner {
            assert!(report.is_clean(), "{report}");
        } else {
            assert_eq!(rules, [Rule::WrongShard], "{report}");
            assert_eq!(report.violations[0].lsn, 1);
        }
        assert_eq!(report.sales[0].shard, shard);
    }
}

#[test]
fn what_was_oversold_shows_in_the_counters() {
    let mut story = Story::open();
    story.buy(ANN, 1, &[(1, 6)]);
    story.buy(BOB, 2, &[(1, 6)]);
    let report = story.audit();
    let item = ItemReport { item: 1, capacity: 10, available: -2, held: 0, sold: 12 };
    assert_eq!(report.sales[0].items[0], item);
    assert_eq!(report.violations[0].order, Some(2));
    assert!(report.violations[0].what.contains("available -2"), "{report}");
}

#[test]
fn violations_are_all_counted_and_the_first_are_listed() {
    let mut story = Story::open();
    for _ in 0..VIOLATIONS_LISTED_MAX + 50 {
        story.expire(9);
    }
    let report = story.audit();
    assert_eq!(report.violations.len(), VIOLATIONS_LISTED_MAX);
    assert_eq!(report.violation_count, 150);
    assert!(report.to_string().contains("and 50 more"), "{report}");
}

#[test]
fn a_violation_says_where_the_record_is() {
    let dir = DataDir::new();
    let mut story = Story::open();
    story.expire(3);
    dir.write_shard(0, 1, &story.rows);
    let report = audit(dir.path()).unwrap();
    let violation = &report.violations[0];
    assert_eq!(violation.file, dir.segment(0));
    let bytes = fs::read(&violation.file).unwrap();
    let record = &bytes[violation.offset as usize..][..15];
    assert_eq!((record[0], record[11]), (11, 3), "the tag and the order of the record");
}

#[test]
fn a_torn_tail_is_noted_and_clean() {
    let dir = DataDir::new();
    let end = dir.write_shard(0, 1, &clean_story().rows);
    dir.poke(0, end + 10, b"torn");
    let before = fs::read(dir.segment(0)).unwrap();
    let report = audit(dir.path()).unwrap();
    assert!(report.is_clean(), "{report}");
    let torn = report.shards[0].torn.as_ref().expect("the torn tail is noted");
    assert_eq!((torn.offset, torn.bytes), (end, 4096));
    assert!(report.to_string().contains("never acknowledged"), "{report}");
    assert_eq!(fs::read(dir.segment(0)).unwrap(), before, "an audit changes nothing");
}

#[test]
fn a_damaged_log_is_read_up_to_the_damage() {
    let dir = DataDir::new();
    dir.write_shard(0, 1, &clean_story().rows);
    // A bit of the sixth frame, which is no last one.
    dir.poke(0, 6 * 4096 + 60, &[0xff]);
    let report = audit(dir.path()).unwrap();
    assert!(!report.is_clean());
    let shard = &report.shards[0];
    assert_eq!((shard.records, shard.frames), (5, None));
    let failure = shard.failure.as_ref().expect("the damage is reported");
    assert!(failure.contains("offset 24576, LSN 6"), "{failure}");
    assert_eq!(report.sales.len(), 1, "what is readable is shown");
    assert!(report.to_string().ends_with("NOT CLEAN: a log could not be read to its end"));
}

#[test]
fn a_directory_without_all_its_logs_is_not_clean() {
    let dir = DataDir::new();
    let error = audit(dir.path()).unwrap_err();
    assert!(matches!(error, AuditError::NoLog { .. }), "{error}");
    let error = audit(&dir.path().join("nowhere")).unwrap_err();
    assert!(matches!(error, AuditError::Unreadable(_)), "{error}");
    dir.write_shard(0, 2, &[]);
    let report = audit(dir.path()).unwrap();
    assert!(!report.is_clean());
    assert_eq!((report.shards.len(), report.shards[1].shard), (2, 1));
    // A shard's directory under another shard's name.
    fs::rename(dir.path().join("shard-000"), dir.path().join("shard-001")).unwrap();
    let report = audit(dir.path()).unwrap();
    let failure = report.shards[1].failure.as_ref().expect("the mix-up is reported");
    assert!(failure.contains("shard 0 of 2, not by shard 1 of 2"), "{failure}");
}

#[test]
fn the_report_is_facts_in_json() {
    let mut story = closed_story();
    story.expire(99);
    let json = serde_json::to_value(story.audit()).unwrap();
    assert_eq!(json["violation_count"], 1);
    assert_eq!(json["violations"][0]["rule"], "unknown_order");
    assert_eq!(json["violations"][0]["order"], 99);
    assert_eq!(json["sales"][0]["items"][1]["available"], 4);
    assert_eq!(json["sales"][0]["orders"]["cancelled"], 1);
    assert_eq!(json["shards"][0]["torn"], serde_json::Value::Null);
}
