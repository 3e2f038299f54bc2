//! Which decisions money has a part in, so that not everybody may have them.

use super::Engine;
use super::sale::Sale;
use crate::model::{ItemId, OrderNumber, Price, Record, SaleId};

impl Engine {
    /// Whether this record, decided and not yet applied, makes tickets of units that cost money,
    /// or stock of such tickets: somebody has to have been paid, or to be paid back.
    #[must_use]
    pub fn is_paid_for(&self, record: &Record) -> bool {
        match record {
            Record::Bought(bought) => {
                self.any_costs(bought.origin.sale, bought.lines.iter().map(|line| line.item))
            }
            Record::Confirmed(confirmed) => {
                let chosen = confirmed.lines.iter().map(|line| line.item);
                self.chosen_cost(confirmed.origin.sale, confirmed.order, chosen)
            }
            Record::Cancelled(cancelled) => {
                let chosen = cancelled.lines.iter().map(|line| line.item);
                self.chosen_cost(cancelled.origin.sale, cancelled.order, chosen)
            }
            _ => false,
        }
    }

    fn any_costs(&self, sale: SaleId, mut items: impl Iterator<Item = ItemId>) -> bool {
        self.sale(sale).is_ok_and(|sale| items.any(|item| costs(sale, item)))
    }

    /// The same of an order's chosen items, which are all that it has where none is named.
    fn chosen_cost(
        &self,
        sale: SaleId,
        order: OrderNumber,
        mut chosen: impl ExactSizeIterator<Item = ItemId>,
    ) -> bool {
        let Ok(sale) = self.sale(sale) else { return false };
        if chosen.len() > 0 {
            return chosen.any(|item| costs(sale, item));
        }
        let mut rows = sale.orders.find(order).into_iter().flat_map(|row| sale.orders.lines(row));
        rows.any(|line| sale.items.at(line.item).price > Price(0))
    }
}

fn costs(sale: &Sale, item: ItemId) -> bool {
    sale.items.find(item).is_some_and(|row| sale.items.at(row).price > Price(0))
}

#[cfg(test)]
mod tests {
    use super::super::{Decision, Engine, HashSeed};
    use super::*;
    use crate::model::{
        AccountId, Command, Intent, ItemTerms, Line, Lines, PaymentRef, Quantity, RequestId,
        SaleTerms, TimeMs, Wanted, WantedLine,
    };

    const SALE: SaleId = SaleId(1);
    const FREE: ItemId = ItemId(1);
    const PAID: ItemId = ItemId(2);

    fn intent(request: u128) -> Intent {
        Intent { sale: SALE, account: AccountId(1), request: RequestId(request) }
    }

    fn lines(items: &[ItemId]) -> Lines {
        let line = |&item| Line { item, quantity: Quantity(1) };
        Lines::new(items.iter().map(line)).expect("distinct items")
    }

    fn wanted(items: &[ItemId]) -> Wanted {
        let lines = lines(items);
        let lines = lines.as_slice().iter().map(|&line| WantedLine { line, price: None });
        Wanted::new(lines).expect("they are an order's lines")
    }

    /// Decides, applies, and tells whether money has a part in it.
    fn take(engine: &mut Engine, command: &Command) -> bool {
        match engine.decide(command, TimeMs(1)).expect("it is granted") {
            Decision::Commit(record) => {
                let is_paid_for = engine.is_paid_for(&record);
                engine.apply(&record);
                is_paid_for
            }
            Decision::Replayed(outcome) => panic!("it is new, and not {outcome:?}"),
        }
    }

    fn open_sale() -> Engine {
        let mut engine = Engine::new(HashSeed([1, 2]));
        let terms = |price| {
            let capacity = Quantity(9);
            ItemTerms { capacity, price: Price(price), account_limit: None }
        };
        for command in [
            Command::DefineSale { sale: SALE, terms: SaleTerms::default() },
            Command::DefineItem { sale: SALE, item: FREE, terms: terms(0) },
            Command::DefineItem { sale: SALE, item: PAID, terms: terms(1) },
            Command::OpenSale { sale: SALE },
        ] {
            assert!(!take(&mut engine, &command), "{command:?}");
        }
        engine
    }

    #[test]
    fn what_costs_money_is_known_by_its_items() {
        let payment = PaymentRef::default;
        for (items, chosen, expected) in [
            (&[FREE][..], None, false),
            (&[PAID], None, true),
            (&[FREE, PAID], None, true),
            (&[FREE, PAID], Some(&[FREE][..]), false),
            (&[FREE, PAID], Some(&[PAID]), true),
        ] {
            let mut engine = open_sale();
            let order = OrderNumber(1);
            let hold = Command::Hold { intent: intent(1), lines: wanted(items), ttl: None };
            assert!(!take(&mut engine, &hold), "nobody pays for a hold");
            let extend = Command::Extend { intent: intent(2), order };
            assert!(!take(&mut engine, &extend));
            let chosen = chosen.map(lines);
            let (intent, lines) = (intent(3), chosen.clone());
            let confirm = Command::Confirm { intent, order, payment: payment(), lines };
            assert_eq!(take(&mut engine, &confirm), expected, "{items:?} {chosen:?}");
            let cancel = Command::Cancel { intent: self::intent(4), order, lines: chosen.clone() };
            assert_eq!(take(&mut engine, &cancel), expected, "{items:?} {chosen:?}");
        }
        for (items, expected) in [(&[FREE][..], false), (&[FREE, PAID], true)] {
            let lines = wanted(items);
            let buy = Command::Buy { intent: intent(1), lines, payment: payment() };
            assert_eq!(take(&mut open_sale(), &buy), expected, "{items:?}");
        }
    }
}
