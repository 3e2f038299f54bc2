//! What administration does: each place of the interface on the desk of the shards.
//!
//! Every change is a command that its sale's shard decides, logs, and answers once it is durable.
//! A change of several steps ([`Office::define`]) is one at a time, so that two callers who want
//! different things do not mix their steps.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::num::NonZeroU16;
use std::rc::Rc;
use std::sync::Arc;

use glommio::sync::Semaphore;

use super::query::Params;
use super::reply::{Problem, Reply};
use super::route::{Route, Turn};
use super::view::{
    AccountOrdersShown, Changed, Definition, ItemBody, ItemDefinition, OrderShown, RestockBody,
    SaleShown, SalesShown, ServerShown, Step, WantedState,
};
use super::{OPENAPI, Peer};
use crate::admission::keys::Keys;
use crate::control::desk::{Desk, Phase};
use crate::control::metrics::Scraper;
use crate::model::outcome::{ORDERS_PAGE_MAX, SALES_PAGE_MAX};
use crate::model::{
    Command, ItemCounts, ItemId, ItemTerms, OrderNumber, OrderPage, OrderView, Outcome, Query,
    Refusal, RequestId, SaleId, SalePage, SaleState, SaleStats, ShardIndex, account_from_text,
};
use crate::protocol::http::{HttpFault, Method, Request, json_body, request_id};

/// Sales or orders of a page unless the caller says how many.
const PAGE_DEFAULT: NonZeroU16 = NonZeroU16::new(100).expect("it is not zero");

const _: () =
    assert!(PAGE_DEFAULT.get() <= SALES_PAGE_MAX && PAGE_DEFAULT.get() <= ORDERS_PAGE_MAX);

/// Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// See the module.
pub(super) struct Office {
    desk: Rc<Desk>,
    scraper: Rc<Scraper>,
    /// The keys, where each request needs one.
    keys: RefCell<Option<Arc<Keys>>>,
    /// Held by the one change of several steps that is under way.
    defining: Semaphore,
}

impl Office {
    pub(super) fn new(desk: Rc<Desk>, scraper: Rc<Scraper>, keys: Option<Arc<Keys>>) -> Self {
        Self { desk, scraper, keys: RefCell::new(keys), defining: Semaphore::new(1) }
    }

    /// Other keys count from now on, where any are needed at all.
    pub(super) fn take_keys(&self, keys: Option<Arc<Keys>>) {
        let mut own = self.keys.borrow_mut();
        if own.is_some() {
            *own = keys;
        }
    }

    /// Whether the server stops, so that connections are to end.
    pub(super) fn is_stopping(&self) -> bool {
        self.desk.phase() == Phase::Stopping
    }

    /// Grants a request or says why not. Changes are logged with who asked for them.
    pub(super) async fn answer(&self, request: &Request<'_>, peer: Peer) -> Reply {
        let reply = self.handle(request).await.unwrap_or_else(Reply::from);
        if !matches!(request.method, Method::Get | Method::Head) {
            let done: Vec<String> = reply.done.iter().map(ToString::to_string).collect();
            let key = self.key_name(request);
            // The path is the peer's: quoted, so that it cannot pass for a line of this log.
            let (path, status) = (request.path, reply.status);
            if key.is_none() && self.keys.borrow().is_some() {
                // Whoever reaches the port can do this as often as they like.
                tracing::debug!(%peer, key, ?path, status, "administration");
            } else {
                tracing::info!(%peer, key, ?path, status, ?done, "administration");
            }
        }
        reply
    }

    fn key_name(&self, request: &Request<'_>) -> Option<String> {
        let keys = self.keys.borrow();
        let keys = keys.as_ref()?;
        keys.verify(request.bearer()?).map(|(key, _)| keys.name(key).to_owned())
    }

    async fn handle(&self, request: &Request<'_>) -> Result<Reply, Problem> {
        let route = Route::parse(request.path).ok_or(HttpFault::NoSuchPath)?;
        let method = method_name(request.method)?;
        if !route.allow().split(", ").any(|allowed| allowed == method) {
            return Err(Problem::Method(route.allow()));
        }
        if !route.is_open_to_all() {
            refuse_pages(request)?;
            self.admit(request).inspect_err(|_| self.scraper.count_administration_refused())?;
        }
        let query = request.query.filter(|_| !route.takes_any_parameter());
        let params = Params::parse(query)?;
        params.allow(route.parameters())?;
        match route {
            Route::Live => Ok(Reply::text(200, "text/plain", "live\n")),
            Route::Ready => Ok(self.readiness()),
            Route::Metrics => Ok(Reply::text(200, METRICS_TYPE, self.scraper.text().await)),
            Route::Document => Ok(Reply::text(200, "application/json", OPENAPI)),
            Route::Stats => self.stats().await,
            Route::Sales => self.list(&params).await,
            Route::Sale(sale) if request.method == Method::Put => {
                self.define(sale, &json_body(request)?).await
            }
            Route::Sale(sale) => Ok(Reply::json(200, &self.show(sale).await?)),
            Route::Turn(sale, turn) => self.turn(sale, turn).await,
            Route::Item(sale, item) => self.define_item(sale, item, json_body(request)?).await,
            Route::Restock(sale, item) => self.restock(sale, item, request).await,
            Route::Orders(sale) => self.orders(sale, &params).await,
            Route::Order(sale, order) => self.order(sale, order).await,
        }
    }

    fn admit(&self, request: &Request<'_>) -> Result<(), Refusal> {
        let keys = self.keys.borrow();
        let Some(keys) = &*keys else { return Ok(()) };
        let verified = request.bearer().and_then(|key| keys.verify(key));
        match verified {
            Some((_, scopes)) if scopes.admin => Ok(()),
            Some(_) => Err(Refusal::Forbidden),
            None => Err(Refusal::BadToken),
        }
    }

    fn readiness(&self) -> Reply {
        let (status, text) = match self.desk.phase() {
            Phase::Starting => (503, "starting\n"),
            Phase::Serving => (200, "ready\n"),
            Phase::Stopping => (503, "stopping\n"),
        };
        Reply::text(status, "text/plain", text)
    }

    async fn stats(&self) -> Result<Reply, Problem> {
        let mut shown = ServerShown::new(self.desk.shards().count() as u16);
        if shown.shards == 0 {
            return Err(Refusal::Overloaded.into());
        }
        let limit = NonZeroU16::new(SALES_PAGE_MAX).expect("a page is not empty");
        for shard in self.desk.shards() {
            let mut after = None;
            loop {
                let page = self.sales_of(shard, after, limit).await?;
                page.sales.iter().for_each(|sale| shown.add(&sale.stats));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(Reply::json(200, &shown))
    }

    /// The sales of all shards, merged by their ids.
    async fn list(&self, params: &Params) -> Result<Reply, Problem> {
        let after = params.number("after")?.map(SaleId);
        let limit = page_size(params, SALES_PAGE_MAX)?;
        if self.desk.shards().count() == 0 {
            return Err(Refusal::Overloaded.into());
        }
        let mut sales = Vec::new();
        // Up to where every shard has told all its sales.
        let mut horizon = None::<SaleId>;
        for shard in self.desk.shards() {
            let page = self.sales_of(shard, after, limit).await?;
            sales.extend(page.sales);
            horizon = [horizon, page.next].into_iter().flatten().min();
        }
        sales.sort_by_key(|summary| summary.sale);
        if let Some(horizon) = horizon {
            sales.retain(|summary| summary.sale <= horizon);
        }
        if sales.len() > usize::from(limit.get()) {
            sales.truncate(limit.get().into());
            horizon = sales.last().map(|summary| summary.sale);
        }
        let sales = sales.iter().map(|summary| SaleShown::new(summary.sale, &summary.stats));
        let shown = SalesShown { sales: sales.collect(), next: horizon.map(|sale| sale.0) };
        Ok(Reply::json(200, &shown))
    }

    async fn sales_of(
        &self,
        shard: ShardIndex,
        after: Option<SaleId>,
        limit: NonZeroU16,
    ) -> Result<SalePage, Refusal> {
        let query = Query::Sales { shard, after, limit };
        match self.desk.query(query).await?.outcome {
            Outcome::Sales(page) => Ok(page),
            other => unreachable!("a list of sales is answered so, not with {other:?}"),
        }
    }

    async fn show(&self, sale: SaleId) -> Result<SaleShown, Refusal> {
        let stats = self.sale_stats(sale).await?;
        let items = self.items(sale).await?;
        Ok(SaleShown::new(sale, &stats).with_items(&items))
    }

    async fn sale_stats(&self, sale: SaleId) -> Result<SaleStats, Refusal> {
        match self.desk.query(Query::Stats { sale }).await?.outcome {
            Outcome::Stats(stats) => Ok(stats),
            other => unreachable!("totals are answered so, not with {other:?}"),
        }
    }

    async fn items(&self, sale: SaleId) -> Result<Vec<ItemCounts>, Refusal> {
        match self.desk.query(Query::Availability { sale }).await?.outcome {
            Outcome::Availability(items) => Ok(items),
            other => unreachable!("counters are answered so, not with {other:?}"),
        }
    }

    /// Whether the sale has these items with these terms.
    async fn has_items(&self, sale: SaleId, wanted: &[ItemDefinition]) -> Result<bool, Refusal> {
        let items = self.items(sale).await?;
        Ok(wanted.iter().all(|wanted| {
            items.iter().any(|counts| {
                let ItemCounts { item, capacity, price, account_limit, .. } = *counts;
                (item, ItemTerms { capacity, price, account_limit })
                    == (wanted.id(), wanted.terms())
            })
        }))
    }

    async fn orders(&self, sale: SaleId, params: &Params) -> Result<Reply, Problem> {
        let missing = || Problem::field("account", "the account whose orders are wanted");
        let account = params.text("account").ok_or_else(missing)?;
        let account = account_from_text(account.as_bytes()).ok_or_else(|| {
            Problem::field("account", "neither a UUID nor a text of 1 to 64 bytes")
        })?;
        let after = OrderNumber(params.number("after")?.unwrap_or(0));
        let limit = page_size(params, ORDERS_PAGE_MAX)?;
        let query = Query::AccountOrders { sale, account, after, limit };
        let OrderPage { orders, next } = match self.desk.query(query).await?.outcome {
            Outcome::Orders(page) => page,
            other => unreachable!("a list of orders is answered so, not with {other:?}"),
        };
        let orders = orders.iter().map(|order| OrderShown::new(sale, order)).collect();
        Ok(Reply::json(200, &AccountOrdersShown { orders, next: next.map(|order| order.0) }))
    }

    async fn order(&self, sale: SaleId, order: OrderNumber) -> Result<Reply, Problem> {
        let view: OrderView = match self.desk.query(Query::Order { sale, order }).await?.outcome {
            Outcome::Order(view) => view,
            other => unreachable!("an order is answered so, not with {other:?}"),
        };
        Ok(Reply::json(200, &OrderShown::new(sale, &view)))
    }

    async fn turn(&self, sale: SaleId, turn: Turn) -> Result<Reply, Problem> {
        self.change(sale, Step::named(turn.name()), turn.command(sale)).await
    }

    async fn define_item(
        &self,
        sale: SaleId,
        item: ItemId,
        body: ItemBody,
    ) -> Result<Reply, Problem> {
        let command = Command::DefineItem { sale, item, terms: body.terms() };
        self.change(sale, Step::named("define_item").of(item), command).await
    }

    async fn restock(
        &self,
        sale: SaleId,
        item: ItemId,
        request: &Request<'_>,
    ) -> Result<Reply, Problem> {
        let RestockBody { by } = json_body(request)?;
        let id = match request.idempotency_key {
            None => random_request_id(),
            Some(key) => request_id(key).ok_or_else(|| {
                Problem::field("Idempotency-Key", "a text of 1 to 64 bytes, bare or in quotes")
            })?,
        };
        let command = Command::Restock { sale, request: id, item, by };
        self.change(sale, Step::named("restock").of(item).by(by), command).await
    }

    /// A change of one step.
    async fn change(&self, sale: SaleId, step: Step, command: Command) -> Result<Reply, Problem> {
        let answer = self.desk.command(command).await?;
        let done = if answer.replayed { Vec::new() } else { vec![step] };
        self.changed(sale, done, 200).await
    }

    async fn changed(&self, sale: SaleId, done: Vec<Step>, status: u16) -> Result<Reply, Problem> {
        let shown = Changed { sale: self.show(sale).await?, done: done.clone() };
        Ok(Reply::json(status, &shown).having_done(done))
    }

    /// Brings a sale and its items to what is wanted, step by step. Where all is so already,
    /// nothing is done.
    async fn define(&self, sale: SaleId, wanted: &Definition) -> Result<Reply, Problem> {
        refuse_repeated(&wanted.items)?;
        let _turn = self.defining.acquire_permit(1).await.expect("it is never closed");
        let before = match self.sale_stats(sale).await {
            Ok(stats) => Some(stats),
            Err(Refusal::NotFound) => None,
            Err(refusal) => return Err(refusal.into()),
        };
        let state = before.map_or(SaleState::Scheduled, |stats| stats.state);
        if wanted.state == Some(WantedState::Scheduled) && state != SaleState::Scheduled {
            return Err(Problem::field("state", "a sale that was opened is never scheduled again"));
        }
        // Of an archived sale nothing changes any more, and its terms are there to be asked for.
        let is_archived = |stats: SaleStats| {
            wanted.state == Some(WantedState::Archived)
                && stats.state == SaleState::Archived
                && stats.terms == wanted.terms()
        };
        if before.is_some_and(is_archived) && self.has_items(sale, &wanted.items).await? {
            return self.changed(sale, Vec::new(), 200).await;
        }
        let mut steps = Steps { desk: &self.desk, done: Vec::new() };
        let terms = wanted.terms();
        steps.take(Step::named("define_sale"), Command::DefineSale { sale, terms }).await?;
        if !wanted.items.is_empty() {
            let items = match before {
                Some(_) => self.items(sale).await?,
                None => Vec::new(),
            };
            for item in &wanted.items {
                let (step, command) = item_step(sale, item, state, &items);
                steps.take(step, command).await?;
            }
        }
        if let Some(turn) = wanted.state.and_then(Turn::to) {
            steps.take(Step::named(turn.name()), turn.command(sale)).await?;
        }
        let status = if before.is_some() { 200 } else { 201 };
        self.changed(sale, steps.done, status).await
    }
}

/// Refuses what a web page asks for. Without keys an address on loopback is open to every program
/// of this machine, the browser among them: a page from anywhere could have it close a sale, since
/// that takes neither a body nor a header that its browser would ask about first.
fn refuse_pages(request: &Request<'_>) -> Result<(), Problem> {
    match request.origin {
        None => Ok(()),
        Some(_) => Err(Problem::field("Origin", "administration is not for web pages")),
    }
}

/// Refuses a definition that says two things of one item. To an open sale each of them would be a
/// restock of its own, from the same counters.
fn refuse_repeated(items: &[ItemDefinition]) -> Result<(), Problem> {
    let mut known = HashSet::new();
    match items.iter().position(|item| !known.insert(item.id())) {
        None => Ok(()),
        Some(at) => Err(Problem::field(format!("items[{at}].item"), "it stands here already")),
    }
}

/// The steps of a change, up to the first that is refused.
struct Steps<'a> {
    desk: &'a Desk,
    done: Vec<Step>,
}

impl Steps<'_> {
    async fn take(&mut self, step: Step, command: Command) -> Result<(), Problem> {
        match self.desk.command(command).await {
            Ok(answer) => {
                if !answer.replayed {
                    self.done.push(step);
                }
                Ok(())
            }
            Err(refusal) => {
                Err(Problem::Step { refusal, step, done: std::mem::take(&mut self.done) })
            }
        }
    }
}

/// How an item becomes what is wanted. While the sale is scheduled it is defined; later only its
/// capacity may change, and that is a restock.
fn item_step(
    sale: SaleId,
    wanted: &ItemDefinition,
    state: SaleState,
    items: &[ItemCounts],
) -> (Step, Command) {
    let (item, terms) = (wanted.id(), wanted.terms());
    let is_same = |counts: &&ItemCounts| {
        counts.item == item
            && counts.price == terms.price
            && counts.account_limit == terms.account_limit
            && counts.capacity != terms.capacity
    };
    match items.iter().find(is_same).filter(|_| state != SaleState::Scheduled) {
        Some(counts) => {
            let by = i64::from(terms.capacity.0) - i64::from(counts.capacity.0);
            let command = Command::Restock { sale, request: random_request_id(), item, by };
            (Step::named("restock").of(item).by(by), command)
        }
        None => (Step::named("define_item").of(item), Command::DefineItem { sale, item, terms }),
    }
}

fn page_size(params: &Params, max: u16) -> Result<NonZeroU16, Problem> {
    let Some(limit) = params.number::<u16>("limit")? else { return Ok(PAGE_DEFAULT) };
    NonZeroU16::new(limit)
        .filter(|limit| limit.get() <= max)
        .ok_or_else(|| Problem::field("limit", format!("a number from 1 to {max}")))
}

fn method_name(method: Method) -> Result<&'static str, HttpFault> {
    match method {
        Method::Get => Ok("GET"),
        Method::Head => Ok("HEAD"),
        Method::Post => Ok("POST"),
        Method::Put => Ok("PUT"),
        // Places know their methods; these are none of them.
        Method::Options | Method::Foreign => Ok(""),
        Method::Unknown => Err(HttpFault::MethodUnknown),
    }
}

/// A request id that nobody uses again.
fn random_request_id() -> RequestId {
    let mut bytes = [0; 16];
    let read = File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes));
    read.expect("the system's randomness was there at the start");
    RequestId(u128::from_le_bytes(bytes))
}
