//! What an API key allows.

use super::command::Command;

/// What the holder of an API key may send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes {
    /// Buyers' commands, and every query.
    pub buy: bool,
    /// Administration, and every query.
    pub admin: bool,
}

impl Scopes {
    /// Everything: what loopback has where no key is configured.
    pub const ALL: Self = Self { buy: true, admin: true };

    /// Whether a key with these scopes may send `command`.
    #[must_use]
    pub const fn allow(self, command: &Command) -> bool {
        if command.is_administration() { self.admin } else { self.buy }
    }
}

#[cfg(test)]
mod tests {
    use super::super::command::Intent;
    use super::super::id::{AccountId, RequestId, SaleId};
    use super::*;

    #[test]
    fn each_scope_allows_its_own_commands() {
        let sale = SaleId(1);
        let administration = Command::OpenSale { sale };
        let intent = Intent { sale, account: AccountId(1), request: RequestId(1) };
        let purchase = Command::Fence { intent };
        let (buy, admin) = (Scopes { buy: true, admin: false }, Scopes { buy: false, admin: true });
        assert!(buy.allow(&purchase) && !buy.allow(&administration));
        assert!(admin.allow(&administration) && !admin.allow(&purchase));
        assert!(Scopes::ALL.allow(&purchase) && Scopes::ALL.allow(&administration));
    }
}
