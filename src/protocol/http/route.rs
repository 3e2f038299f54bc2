//! Which place of the interface a request is for.

use super::fault::Methods;
use super::request::Request;
use crate::model::{OrderNumber, RequestId, SaleId};

/// A place, and by its method what is wanted there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Hold or buy.
    Orders(SaleId),
    /// Confirm a hold.
    Confirm(SaleId, OrderNumber),
    /// Give a hold back.
    Release(SaleId, OrderNumber),
    /// Take tickets back into stock.
    Cancel(SaleId, OrderNumber),
    /// Extend a hold.
    Extend(SaleId, OrderNumber),
    /// Read an order.
    Order(SaleId, OrderNumber),
    /// Look a request id up, or fence it.
    Request(SaleId, RequestId),
    /// Read the counters of a sale's items.
    Availability(SaleId),
    /// Read the totals of a sale.
    Stats(SaleId),
    /// A path outside `/v1/`, with any method: the caller looks the document up. Not there: it
    /// is [`HttpFault::NoSuchPath`]. A method outside [`Methods::Read`]: 405.
    Document,
    /// `OPTIONS` of a place that takes these: answer with
    /// [`encode_options`](super::encode_options), whoever asks.
    Options(Methods),
}

/// The place of `request`. The id of a sale or an order that is no number is refused like a
/// field of a body.
pub fn route(request: &Request<'_>) -> Result<Route, super::HttpRefusal> {
    let _ = request;
    Ok(Route::Document)
}
