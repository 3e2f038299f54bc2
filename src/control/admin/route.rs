//! The places of administration, and what may be done at each.

use super::view::WantedState;
use crate::model::{Command, ItemId, OrderNumber, SaleId};

/// A place that a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `/livez`
    Live,
    /// `/readyz`
    Ready,
    /// `/metrics`
    Metrics,
    /// `/openapi.json`
    Document,
    /// `/v1/stats`
    Stats,
    /// `/v1/sales`
    Sales,
    /// `/v1/sales/{sale}`
    Sale(SaleId),
    /// `/v1/sales/{sale}/open` and its like
    Turn(SaleId, Turn),
    /// `/v1/sales/{sale}/items/{item}`
    Item(SaleId, ItemId),
    /// `/v1/sales/{sale}/items/{item}/restock`
    Restock(SaleId, ItemId),
    /// `/v1/sales/{sale}/orders`
    Orders(SaleId),
    /// `/v1/sales/{sale}/orders/{n}`
    Order(SaleId, OrderNumber),
}

/// A change of a sale's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Open,
    Pause,
    Close,
    Archive,
}

impl Turn {
    /// Its name in paths and answers.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Pause => "pause",
            Self::Close => "close",
            Self::Archive => "archive",
        }
    }

    /// The command that makes it.
    pub(super) const fn command(self, sale: SaleId) -> Command {
        match self {
            Self::Open => Command::OpenSale { sale },
            Self::Pause => Command::PauseSale { sale },
            Self::Close => Command::CloseSale { sale },
            Self::Archive => Command::ArchiveSale { sale },
        }
    }

    /// What leads to a state; none leads back to the first one.
    pub(super) const fn to(state: WantedState) -> Option<Self> {
        match state {
            WantedState::Scheduled => None,
            WantedState::Open => Some(Self::Open),
            WantedState::Paused => Some(Self::Pause),
            WantedState::Closed => Some(Self::Close),
            WantedState::Archived => Some(Self::Archive),
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Open, Self::Pause, Self::Close, Self::Archive]
            .into_iter()
            .find(|turn| turn.name() == name)
    }
}

impl Route {
    /// The place that `path` names. Numbers are plain decimal ones: nothing here needs escapes.
    pub(super) fn parse(path: &str) -> Option<Self> {
        match path {
            "/livez" => return Some(Self::Live),
            "/readyz" => return Some(Self::Ready),
            "/metrics" => return Some(Self::Metrics),
            "/openapi.json" => return Some(Self::Document),
            "/v1/stats" => return Some(Self::Stats),
            "/v1/sales" => return Some(Self::Sales),
            _ => {}
        }
        let segments: Vec<&str> = path.strip_prefix("/v1/sales/")?.splitn(5, '/').collect();
        let sale = SaleId(decimal(segments[0])?);
        Some(match segments[1..] {
            [] => Self::Sale(sale),
            ["orders"] => Self::Orders(sale),
            [name] => Self::Turn(sale, Turn::from_name(name)?),
            ["items", item] => Self::Item(sale, ItemId(decimal(item)?)),
            ["items", item, "restock"] => Self::Restock(sale, ItemId(decimal(item)?)),
            ["orders", order] => Self::Order(sale, OrderNumber(decimal(order)?)),
            _ => return None,
        })
    }

    /// The methods that the place takes, as the header `Allow` names them.
    pub(super) const fn allow(self) -> &'static str {
        match self {
            Self::Live
            | Self::Ready
            | Self::Metrics
            | Self::Document
            | Self::Stats
            | Self::Sales
            | Self::Orders(_)
            | Self::Order(..) => "GET, HEAD",
            Self::Sale(_) => "GET, HEAD, PUT",
            Self::Item(..) => "PUT",
            Self::Turn(..) | Self::Restock(..) => "POST",
        }
    }

    /// The parameters that the place takes behind a `?`.
    pub(super) const fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::Sales => &["after", "limit"],
            Self::Orders(_) => &["account", "after", "limit"],
            _ => &[],
        }
    }

    /// Whether parameters mean nothing here and are let pass: what programs ask that were not
    /// written for this one, and whose settings may add some.
    pub(super) const fn takes_any_parameter(self) -> bool {
        matches!(self, Self::Live | Self::Ready | Self::Metrics)
    }

    /// Whether a caller needs no key even where there are keys: what probes ask.
    pub(super) const fn is_open_to_all(self) -> bool {
        matches!(self, Self::Live | Self::Ready)
    }
}

/// A number without a sign, and without zeros before it.
fn decimal<T: std::str::FromStr>(text: &str) -> Option<T> {
    let is_plain =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if is_plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_places() {
        let sale = SaleId(7);
        for (path, route) in [
            ("/livez", Route::Live),
            ("/v1/sales", Route::Sales),
            ("/v1/sales/7", Route::Sale(sale)),
            ("/v1/sales/7/open", Route::Turn(sale, Turn::Open)),
            ("/v1/sales/7/archive", Route::Turn(sale, Turn::Archive)),
            ("/v1/sales/7/items/4294967295", Route::Item(sale, ItemId(u32::MAX))),
            ("/v1/sales/7/items/1/restock", Route::Restock(sale, ItemId(1))),
            ("/v1/sales/7/orders", Route::Orders(sale)),
            ("/v1/sales/7/orders/3", Route::Order(sale, OrderNumber(3))),
            ("/v1/sales/18446744073709551615", Route::Sale(SaleId(u64::MAX))),
        ] {
            assert_eq!(Route::parse(path), Some(route), "{path}");
        }
    }

    /// The document has every place, with the methods that it takes.
    #[test]
    fn the_document_has_every_place() {
        let sale = SaleId(7);
        let (item, order) = (ItemId(1), OrderNumber(3));
        let turns = [Turn::Open, Turn::Pause, Turn::Close, Turn::Archive];
        let mut places = vec![
            Route::Live,
            Route::Ready,
            Route::Metrics,
            Route::Document,
            Route::Stats,
            Route::Sales,
            Route::Sale(sale),
            Route::Item(sale, item),
            Route::Restock(sale, item),
            Route::Orders(sale),
            Route::Order(sale, order),
        ];
        places.extend(turns.map(|turn| Route::Turn(sale, turn)));
        let document: serde_json::Value =
            serde_json::from_str(super::super::OPENAPI).expect("the document is JSON");
        let paths = document["paths"].as_object().expect("it has paths");
        let mut documented = Vec::new();
        for (template, methods) in paths {
            let path = template.replace("{sale}", "7").replace("{item}", "1");
            let path = path.replace("{order}", "3");
            let route = Route::parse(&path).unwrap_or_else(|| panic!("{path} names no place"));
            let methods = methods.as_object().expect("it has methods");
            let names = methods.keys().filter(|name| *name != "parameters");
            let mut names: Vec<String> = names.map(|name| name.to_uppercase()).collect();
            names.sort_unstable();
            let allowed = route.allow().split(", ").filter(|method| *method != "HEAD");
            assert_eq!(names, allowed.collect::<Vec<_>>(), "{template}");
            documented.push(route);
        }
        assert_eq!(documented.len(), places.len());
        assert!(places.iter().all(|place| documented.contains(place)), "{documented:?}");
    }

    #[test]
    fn other_paths_name_none() {
        for path in [
            "",
            "/",
            "*",
            "/livez/",
            "/v1/sales/",
            "/v1/sales/seven",
            "/v1/sales/+7",
            "/v1/sales/07",
            "/v1/sales/7/",
            "/v1/sales/7/sell",
            "/v1/sales/%37",
            "/v1/sales/18446744073709551616",
            "/v1/sales/7/items",
            "/v1/sales/7/items/",
            "/v1/sales/7/items/4294967296",
            "/v1/sales/7/items/1/restock/",
            "/v1/sales/7/orders/",
            "/v1/sales/7/orders/1/cancel",
            "/v1/sales/7/items/1/restock/2/3",
        ] {
            assert_eq!(Route::parse(path), None, "{path}");
        }
    }
}
